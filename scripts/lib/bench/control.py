"""Cases about commands that move no content: start-up, `status`, a launch, `list`."""

import concurrent.futures
import contextlib
import datetime
import os
import shutil
import sqlite3
import subprocess
import time

from .lab import FAR, HOSTS, IMAGE, LOOPBACK, call
from .measure import Race, Row, require, timed

ROUND_TRIPS = {LOOPBACK: "", FAR: "50 ms"}


def startup(lab):
    """`--version`, from start to end of the process."""
    yield Race(Row("start-up, `--version`", "< 10 ms"), {
        "farrun": lambda: timed(lambda: call([lab.program, "--version"], env=lab.environment())),
        "ssh -V": lambda: timed(lambda: call(["ssh", "-V"])),
        "docker --version": lambda: timed(lambda: call(["docker", "--version"])),
    })


def after_the_link(lab, *arguments):
    """Seconds of a command in all, and of its part after the agent had answered, as its telemetry says."""
    start = time.time()
    lab.farrun(*arguments)
    end = time.time()
    files = sorted((lab.home / ".local/state/farrun/telemetry").iterdir(), key=lambda file: file.stat().st_mtime)
    answers = [line for line in files[-1].read_text().splitlines() if "The agent answers" in line]
    require(answers, "the telemetry does not say when the agent answered")
    up = datetime.datetime.fromisoformat(answers[-1].split()[0][:26].rstrip("Z") + "+00:00").timestamp()
    require(start <= up <= end, "the telemetry is of another command")
    return {"time": end - start, "after": end - up}


def launch(lab):
    """A detached launch of an image that is there, connection included, and its part after the link is up."""
    for link, above in ((LOOPBACK, "30 ms"), (FAR, "130 ms")):
        host = HOSTS[link]

        def by_farrun(host=host):
            return after_the_link(lab, "run", IMAGE, "--network", "none", "--host", host, "--detach", "--json", "--", "true")

        # The docker client finds server and key by way of an ssh of ours on its PATH.
        folder = lab.fresh("ssh")
        (folder / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/{lab.ssh_line(link)} -l {lab.user} 127.0.0.1 '
                                    f'docker -H {lab.docker_url} system dial-stdio\n')
        (folder / "ssh").chmod(0o755)

        def by_docker(folder=folder):
            environment = dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}")
            return docker_run(lab, ["docker", "-H", "ssh://bench"], environment, "time")

        def on_the_host():
            return docker_run(lab, ["docker", "-H", lab.docker_url], None, "after")

        yield Race([Row(f"launch detached, {link}", "≤ 0.5 × docker over ssh"),
                    Row(f"the same after the link is up, {link}", f"≤ docker run + 2 round trips + 30 ms (+{above})",
                        key="after", against="difference")],
                   {"farrun": by_farrun, "docker -H ssh://": by_docker, "docker run on the host": on_the_host})


def docker_run(lab, docker, environment, key):
    said = []
    seconds = timed(lambda: said.append(call([*docker, "run", "-d", "--network", "none", IMAGE, "true"], env=environment)))
    lab.docker("rm", "-f", said[0].decode().strip())
    return {key: seconds}


def status(lab):
    """One host that is known, and many at once: as many host ids and state folders behind one server."""
    for link, target in ((LOOPBACK, "≤ 50 ms"), (FAR, "≤ 1 round trip + 50 ms (100 ms)")):
        yield Race([Row(f"`farrun status`, one host, {link}", "–"),
                    Row(f"the same after the link is up, {link}", target, key="after")],
                   {"farrun": lambda link=link: after_the_link(lab, "status", HOSTS[link]),
                    "ssh true": lambda link=link: timed(lambda: call([*lab.ssh(link), "true"]))})
    count = 20 if lab.quick else 100
    home = lab.new_home("many")
    names = [f"host{index}" for index in range(count)]
    for name in names:
        # The agent is there already, as on any host that was used before.
        lab.state(name).mkdir(mode=0o700)
        call(["cp", "-al", lab.state(HOSTS[LOOPBACK]) / "agents", lab.state(name) / "agents"])
        lab.add_host(name, LOOPBACK, home=home, connect=False)

    def by_farrun():
        seen = []
        seconds = timed(lambda: seen.append(lab.farrun("status", "--json", home=home).decode().replace(": ", ":")))
        up = seen[0].count('"link":"up"')
        require(up == count, f"only {up} of {count} hosts are up")
        return seconds

    def by_ssh():
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return timed(lambda: list(pool.map(lambda _: call([*lab.ssh(LOOPBACK), "true"]), range(count))))

    yield Race(Row(f"`farrun status`, {count} hosts", "< 2 s"), {"farrun": by_farrun, "ssh true to each": by_ssh})
    for name in names:
        shutil.rmtree(lab.state(name))


def listing(lab):
    """`farrun list` on many runs: one real row is copied within a database of its own."""
    lab.farrun("run", IMAGE, "--network", "none", "--host", HOSTS[LOOPBACK], "--", "true")
    home = lab.fresh("listing")
    shutil.copytree(lab.home, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("outputs"))
    count = 1000 if lab.quick else 10000
    database = next(p for p in (home / ".local/state/farrun").rglob("*") if p.suffix in (".db", ".sqlite"))
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        names = [column[1] for column in connection.execute("pragma table_info(runs)")]
        row = dict(zip(names, connection.execute(f"select {','.join(names)} from runs limit 1").fetchone()))
        # Settled, so that no host would be asked.
        row |= {"key": None, "status": "completed"}
        for index in range(count):
            row |= {"id": f"rs_{index:012d}", "created_at": row["created_at"] - 1}
            connection.execute(f"insert into runs ({','.join(names)}) values ({','.join('?' * len(names))})",
                               [row[name] for name in names])
    yield Race(Row(f"`farrun list` on {count} runs", "< 50 ms"),
               {"farrun": lambda: timed(lambda: lab.farrun("list", "--offline", home=home))})
