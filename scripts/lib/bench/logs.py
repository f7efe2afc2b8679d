"""Cases about logs: how soon a line is here, how fast a long log comes, what capturing it costs the job."""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import time

from .lab import FAR, HOSTS, IMAGE, LOOPBACK, MIB, call
from .measure import Race, Row, require, settled, wait_until
from .transfer import wait_ended

LINE = "0123456789abcdef0123456789abcdef"


def printing(size):
    return f"yes {LINE} | head -c {size}"


def catch_up(lab):
    """A long log of a run that has ended, to a file here."""
    size = (8 if lab.quick else 100) * MIB
    for link, target in ((LOOPBACK, "≤ 1.0 × ssh tail"), (FAR, "≤ 0.35 × ssh tail")):
        host = HOSTS[link]
        run = lab.shell(host, printing(size), "--log-cap", str(2 * size))
        wait_ended(lab, run)
        log = lab.state(host) / f"runs/{run}/record/run.log"
        require(log.stat().st_size == size, "the log is not what the job printed")
        here = lab.fresh("catch-up") / "log"

        def into_a_file(command, log=log, here=here):
            with open(here, "wb") as file:
                seconds = settled(lab, lambda: command(file), 2 * size)
            require(here.read_bytes() == log.read_bytes(), "another log arrived")
            here.unlink()
            return seconds

        def by_farrun(run=run, log=log, into_a_file=into_a_file):
            # The mirror is the cursor: without it everything has to come again.
            for mirror in mirrors(lab, run):
                mirror.unlink()
            seconds = into_a_file(lambda file: lab.farrun("logs", run, stdout=file))
            require([mirror.read_bytes() == log.read_bytes() for mirror in mirrors(lab, run)] == [True], "the mirror differs")
            return seconds

        def by_tail(link=link, log=log, into_a_file=into_a_file):
            return into_a_file(lambda file: call([*lab.ssh(link), f"tail -n +1 {log}"], stdout=file))

        yield Race(Row(f"catch up with a log of {size // MIB} MiB, {link}", target),
                   {"farrun": by_farrun, "ssh tail": by_tail})


def mirrors(lab, run):
    return list((lab.home / "outputs").rglob(f"run_{run}.log"))


def percentiles(delays):
    ordered = sorted(delays)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99) - 1]}


def latency(lab):
    """From a job's write to its arrival here; the job writes its clock, and both clocks are one."""
    lines = 60 if lab.quick else 200
    writer = ("import time,sys\nfor _ in range(%d):\n    print('%%.9f' %% time.time(), flush=True)\n"
              "    time.sleep(0.05)\n" % lines)
    source = [sys.executable, "-c", writer]

    def arrivals(reader):
        delays = []
        for line in reader.stdout:
            with contextlib.suppress(ValueError):
                delays.append(time.time() - float(line))
            if len(delays) >= lines:
                break
        require(len(delays) >= lines, "lines are missing")
        return percentiles(delays)

    for link in (LOOPBACK, FAR):
        host = HOSTS[link]

        def by_farrun(host=host):
            # Busybox's clock has no fraction: the job copies what this machine writes into a pipe in its outputs.
            run = lab.shell(host, "while [ ! -p /farrun/outputs/pipe ]; do sleep 1; done; exec cat /farrun/outputs/pipe")
            pipe = lab.outputs(host, run) / "pipe"
            os.mkfifo(pipe)
            with lab.following(run, stdout=subprocess.PIPE) as reader:
                # The link has to stand first: what was written before it would be a matter of its making.
                wait_until(lambda: mirrors(lab, run), "the follower")
                time.sleep(1.5)
                with lab.running(["sh", "-c", 'pipe=$1; shift; exec "$@" >"$pipe"', "writer", pipe, *source]):
                    seen = arrivals(reader)
            pipe.unlink()
            return seen

        def by_tail(link=link):
            log = lab.fresh("latency") / "log"
            log.touch()
            with lab.running([*lab.ssh(link), f"tail -n +1 -F {log}"], stdout=subprocess.PIPE) as reader:
                time.sleep(1.5)
                with open(log, "w") as file, lab.running(source, stdout=file):
                    return arrivals(reader)

        yield Race([Row(f"log latency p99, {link}", "≤ ssh tail -F + 3 ms", key="p99", against="difference"),
                    Row(f"log latency p50, {link}", "–", key="p50", against="difference")],
                   {"farrun": by_farrun, "ssh tail -F": by_tail})


def capture(lab):
    """A job that prints a lot and nothing else, on the engine's own clock, from start to end of its container."""
    size = (64 if lab.quick else 1024) * MIB
    host = HOSTS[LOOPBACK]

    def by_farrun(*arguments):
        run = lab.shell(host, printing(size), *arguments)
        lab.docker("wait", f"farrun-{run}")
        record = lab.state(host) / f"runs/{run}/record"
        kept = (record / "run.log").stat().st_size
        require(kept == size if arguments else kept >= min(size, 100_000_000), f"the log holds {kept} bytes")
        seconds = lifetime(lab, f"farrun-{run}")
        with open(record / "run.log", "rb") as log:
            require(log.readline() == f"{LINE}\n".encode(), "the log holds something else")
        (record / "run.log").unlink()
        os.sync()
        return seconds

    def by_docker():
        name = lab.docker("run", "-d", "--network", "none", "--log-driver", "local", IMAGE, "/bin/sh", "-c",
                          printing(size)).decode().strip()
        lab.docker("wait", name)
        seconds = lifetime(lab, name)
        lab.docker("rm", name)
        os.sync()
        return seconds

    target = "≤ 1.2 × docker's local log"
    yield Race([Row(f"job that prints {size // MIB} MiB, default log cap", target),
                Row(f"job that prints {size // MIB} MiB, all of it kept", target, key="all")],
               {"farrun": lambda: {"time": by_farrun(), "all": by_farrun("--log-cap", str(2 * size))},
                "docker run, local driver": lambda: dict.fromkeys(("time", "all"), by_docker())})


def lifetime(lab, container):
    state = json.loads(lab.docker("inspect", "--format", "{{json .State}}", container))

    def moment(text):
        return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()

    return moment(state["FinishedAt"]) - moment(state["StartedAt"])
