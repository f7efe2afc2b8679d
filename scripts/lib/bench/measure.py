"""Contestants, rounds, and the rows they become."""

import dataclasses
import datetime
import filecmp
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time

from .lab import MIB

OWN = "farrun"


@dataclasses.dataclass
class Row:
    """One line of the table. Of each contestant it shows the value named `key`; `against` says how they compare."""

    title: str
    target: str
    key: str = "time"
    unit: str = "s"
    against: str = "ratio"


class Race:
    """Contestants by name, farrun among them; each is a function that answers seconds, or several values by key.

    They run in turn, round after round, so that a busy moment hits all of them. The first round fills caches and is not
    counted. One that fails is out of the race, and the others go on."""

    def __init__(self, rows, contestants, once=False):
        self.rows = rows if isinstance(rows, list) else [rows]
        self.contestants, self.once = contestants, once
        self.failures = {}

    def run(self, rounds):
        values = {name: [] for name in self.contestants}
        for turn in range(1 if self.once else rounds + 1):
            for name, action in self.contestants.items():
                if name in self.failures:
                    continue
                try:
                    value = action()
                except Exception as error:  # noqa: BLE001: whatever it was, the other rows go on
                    self.failures[name] = error
                    continue
                if turn or self.once:
                    values[name].append(value if isinstance(value, dict) else {"time": value})
        return [self.line(row, values) for row in self.rows]

    def line(self, row, values):
        series = {name: [value[row.key] for value in seen if row.key in value] for name, seen in values.items()}
        own = "failed" if OWN in self.failures else spread(series[OWN], row.unit)
        peers = []
        for name, seen in series.items():
            if name == OWN:
                continue
            if name in self.failures:
                peers.append(f"{name} failed")
            elif seen:
                peers.append(f"{name} {spread(seen, row.unit)}{compared(row, series[OWN], seen)}")
        return f"| {row.title} | {own} | {'<br>'.join(peers) or '–'} | {row.target} |"


def compared(row, own, theirs):
    """Paired: what each round says, then the median of it, so that a slow moment hits both sides."""
    pairs = [(a, b) for a, b in zip(own, theirs) if b > 0]
    if not pairs:
        return ""
    if row.against == "ratio":
        return f", ratio {statistics.median(a / b for a, b in pairs):.2f}"
    difference = statistics.median(a - b for a, b in pairs)
    return f", {'+' if difference >= 0 else '−'}{shown(abs(difference), row.unit)}"


def spread(values, unit):
    if not values:
        return "–"
    middle = shown(statistics.median(values), unit)
    return middle if len(values) == 1 else f"{middle} [{shown(min(values), unit)}–{shown(max(values), unit)}]"


def shown(value, unit):
    if unit != "s":
        return f"{value:.2f} {unit}".replace(".00 ", " ")
    return f"{value * 1000:.1f} ms" if abs(value) < 1 else f"{value:.2f} s"


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def settled(lab, action, size):
    """Seconds of `action`, which moves `size` bytes, when the machine owes nothing. What `action` syncs is in its time.

    What was written before, such as the files that are to be moved, is on the disk. And the machine has memory for
    them: a virtual machine that reports free pages gets them back from its host only as they are touched, and writing
    1 GiB into the page cache took 2.1 s instead of 0.3 for whoever came first."""
    os.sync()
    scratch = lab.fresh("memory") / "scratch"
    with open(scratch, "wb") as file:
        for _ in range(2 * size // MIB + 64):
            file.write(bytes(MIB))
    shutil.rmtree(scratch.parent)
    os.sync()
    return timed(action)


def require(condition, what):
    if not condition:
        raise RuntimeError(what)


def wait_until(condition, what, seconds=300, apart=0.1):
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, f"{what}: not within {seconds} s")
        time.sleep(apart)


def random_file(path, size):
    with open(path, "wb") as file:
        generator = random.Random(size)
        for at in range(0, size, MIB):
            file.write(generator.randbytes(min(size - at, MIB)))


def tree_equal(one, other):
    """Whether every file of `one` lies somewhere below `other` with the same bytes."""
    names = {}
    for path in pathlib.Path(other).rglob("*"):
        if path.is_file():
            names.setdefault(path.name, []).append(path)
    return all(any(filecmp.cmp(path, twin, shallow=False) for twin in names.get(path.name, []))
               for path in pathlib.Path(one).rglob("*") if path.is_file())


def load():
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def facts():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) // 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    docker = subprocess.run(["docker", "--version"], capture_output=True, text=True).stdout.strip()
    return (f"{datetime.date.today()}, {os.cpu_count()} cores ({cpu}), {memory} MiB memory, "
            f"Linux {platform.release()}, {ssh}, {docker}, Python {sys.version.split()[0]}")
