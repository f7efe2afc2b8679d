"""Cases about what farrun's own processes take: memory, processor, wake-ups, traffic."""

import contextlib
import os
import pathlib
import time

from .lab import FAR, HOSTS, LOOPBACK, MIB
from .logs import mirrors, printing
from .measure import Race, Row, wait_until

FOLLOWERS = 10
TICK = os.sysconf("SC_CLK_TCK")


def memory(lab):
    """Ten runs whose logs were caught up with and are followed on by one controller."""
    size = (2 if lab.quick else 32) * MIB
    host = HOSTS[LOOPBACK]

    def by_farrun():
        runs = [lab.shell(host, f"{printing(size)}; while :; do echo tick; sleep 1; done") for _ in range(FOLLOWERS)]
        with lab.running([lab.program, "wait", *runs], env=lab.environment(), cwd=lab.home) as controller:
            for run in runs:
                wait_until(lambda run=run: any(one.stat().st_size > size for one in mirrors(lab, run)), "the mirror")
            time.sleep(3)
            seen = {"controller": peak(controller.pid), "now": share(controller.pid),
                    "serve": max(peak(pid) for pid in serves(lab)),
                    "init": max(peak(pid_of(lab, run)) for run in runs)}
        for run in runs:
            lab.farrun("stop", run)
        return seen

    yield Race([Row(f"peak of a controller that follows {FOLLOWERS} runs", "< 64 MiB", key="controller", unit="MiB"),
                Row("the same when it has caught up", "–", key="now", unit="MiB"),
                Row("peak of `serve`", "< 16 MiB", key="serve", unit="MiB"),
                Row("peak of `init`", "< 4 MiB", key="init", unit="MiB")],
               {"farrun": by_farrun}, once=True)


def idle(lab):
    """What a followed run that is silent costs in a minute."""
    seconds = 10 if lab.quick else 60

    def by_farrun():
        run = lab.shell(HOSTS[FAR], "sleep 600")
        with lab.following(run) as reader:
            time.sleep(5)
            host = [pid for pid in lab.below(server(lab)) if pid != server(lab)]
            sides = {"here": [reader.pid], "there": host, "init": [pid_of(lab, run)]}
            before, since = {side: spent(pids) for side, pids in sides.items()}, lab.proxies[FAR].counters()
            time.sleep(seconds)
            after, now = {side: spent(pids) for side, pids in sides.items()}, lab.proxies[FAR].counters()
        lab.farrun("stop", run)
        seen = {"traffic": (now["passed"] - since["passed"]) * 60 / seconds / 1000, "connections": now["connections"],
                "processes": len(host)}
        for side in sides:
            cpu, switches = (b - a for a, b in zip(before[side], after[side]))
            seen |= {f"cpu {side}": cpu / seconds * 100, f"wake-ups {side}": switches / seconds}
        return seen

    what = "an idle followed run, 50 ms"
    yield Race([Row(f"{what}: traffic in a minute", "< 20 KB", key="traffic", unit="KB"),
                Row(f"{what}: processor here", "< 0.5 % of a core", key="cpu here", unit="%"),
                Row(f"{what}: processor on the host, sshd included", "< 0.5 % of a core", key="cpu there", unit="%"),
                Row(f"{what}: processor of `init`", "–", key="cpu init", unit="%"),
                Row(f"{what}: wake-ups here", "–", key="wake-ups here", unit="/s"),
                Row(f"{what}: wake-ups on the host, sshd included", "–", key="wake-ups there", unit="/s"),
                Row(f"{what}: processes on the host, sshd included", "–", key="processes", unit=""),
                Row(f"{what}: connections", "1", key="connections", unit="")],
               {"farrun": by_farrun}, once=True)


def server(lab):
    return (lab.folder / "sshd/sshd.pid").read_text().strip()


def serves(lab):
    """The agents that talk."""
    for pid in lab.below(server(lab)):
        with contextlib.suppress(OSError):
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if line[0].endswith(b"farrun-agent") and line[1] == b"serve":
                yield pid


def pid_of(lab, run):
    """A run's `init`, as this machine sees it."""
    return lab.docker("inspect", "--format", "{{.State.Pid}}", f"farrun-{run}").decode().strip()


def spent(pids):
    """Seconds of processor and wake-ups of processes, threads that have ended left out of the latter."""
    cpu = switches = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / TICK
            for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
                switches += number(status, "voluntary_ctxt_switches")
    return cpu, switches


def peak(pid):
    """Most memory a process has had resident, in MiB."""
    return number(f"/proc/{pid}/status", "VmHWM") / 1024


def share(pid):
    """Memory of a process in MiB, pages that several share divided among them."""
    return number(f"/proc/{pid}/smaps_rollup", "Pss") / 1024


def number(path, name):
    return next(int(line.split()[1]) for line in pathlib.Path(path).read_text().splitlines() if line.startswith(f"{name}:"))
