"""Cases that move files: pulls of large and of small ones, and inputs on their way to a host."""

import filecmp
import os
import random
import shutil

from .lab import FAR, HOSTS, LOOPBACK, MIB, NARROW, call
from .measure import Race, Row, random_file, require, settled, timed, tree_equal, wait_until

ENDED = ("downloading", "completed", "failed")


def large(lab):
    """One large file."""
    yield from one_large(lab, LOOPBACK, 64 if lab.quick else 1024, "≤ 0.65 × scp, ≤ 0.9 × best peer")
    yield from one_large(lab, FAR, 32 if lab.quick else 256, "≤ 0.25 × scp and rsync")


def narrow(lab):
    """One large file over a path whose TCP window is the limit: 3 MiB under way per connection."""
    yield from one_large(lab, NARROW, 32 if lab.quick else 256, "≤ 0.5 × scp and rsync")


def one_large(lab, link, mib, target):
    source = lab.fresh("large")
    random_file(source / "large.bin", mib * MIB)
    yield pull(lab, f"{mib} MiB, {link}", target, link, source)
    shutil.rmtree(source)


def small(lab):
    """Many small files."""
    count = 500 if lab.quick else 5000
    source = lab.fresh("small")
    generator = random.Random(4)
    for index in range(count):
        folder = source / f"folder{index % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{index}").write_bytes(generator.randbytes(4096))
    for link, target in ((LOOPBACK, "≤ 0.7 × rsync"), (FAR, "≤ 0.6 × rsync")):
        yield pull(lab, f"{count} × 4 KiB, {link}", target, link, source, scp=link == LOOPBACK)


def pull(lab, what, target, link, source, scp=True):
    """The same files by everybody, and once more when nothing has changed."""
    host = HOSTS[link]
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())

    def brought(run):
        seconds = settled(lab, lambda: lab.farrun("pull", run), size)
        require(tree_equal(source, lab.home / "outputs"), "farrun brought other bytes")
        again = timed(lambda: lab.farrun("pull", run))
        shutil.rmtree(lab.home / "outputs")
        shutil.rmtree(lab.outputs(host, run))
        return seconds, again

    def by_farrun():
        # The job makes them, and the host lists them when it has ended.
        run = lab.detached(host, "--mount", f"{source}:/source:ro", "--",
                           "/bin/busybox", "cp", "-a", "/source/.", "/farrun/outputs/")
        wait_ended(lab, run)
        wait_until((lab.state(host) / f"runs/{run}/manifest.json").exists, "the host's list of them", seconds=60)
        seconds, again = brought(run)
        # They are laid into the folder of a run that has ended, so that hashing them on the host is part of the pull.
        run = lab.detached(host, "--", "true")
        wait_ended(lab, run)
        call(["cp", "-a", f"{source}/.", lab.outputs(host, run)])
        at_once, _ = brought(run)
        return {"time": seconds, "again": again, "at_once": at_once}

    def copied(command):
        destination = lab.fresh("copy")
        copy = [*command, f"{lab.user}@127.0.0.1:{source}/", f"{destination}/"]
        seconds = {"time": settled(lab, lambda: call(copy), size)}
        seconds["at_once"] = seconds["time"]
        require(tree_equal(source, destination), "a peer brought other bytes")
        if command[0] == "rsync":
            seconds["again"] = timed(lambda: call(copy))
        shutil.rmtree(destination)
        return seconds

    contestants = {"farrun": by_farrun}
    if scp:
        contestants["scp"] = lambda: copied(["scp", "-q", "-r", *lab.ssh_options(), "-P", lab.ports[link]])
    contestants["rsync"] = lambda: copied(["rsync", "-a", "-e", lab.ssh_line(link)])
    return Race([Row(f"pull {what}", target), Row(f"the same before the host has listed them, {what}", "–", key="at_once"),
                 Row(f"the same again, {what}", "≤ 3 round trips, no content", key="again")],
                contestants)


def wait_ended(lab, run):
    def ended():
        shown = lab.farrun("show", run, "--json").decode().replace(": ", ":")
        return any(f'"status":"{word}"' in shown for word in ENDED)
    wait_until(ended, f"the end of {run}")


def push(lab):
    """Inputs on their way: content is new every time, because a host never takes the same content twice.

    A launch without inputs in the same round says what of the time is not the transfer's."""
    for link, target, mib in ((LOOPBACK, "≤ 0.8 × scp", 32 if lab.quick else 1024),
                              (FAR, "≤ 0.6 × scp", 16 if lab.quick else 256)):
        for count in (1, 4):
            yield push_race(lab, link, target, count, mib * MIB // count)


def push_race(lab, link, target, count, size):
    host = HOSTS[link]

    def fresh_files():
        folder = lab.fresh("push")
        for index in range(count):
            with open(folder / f"file{index}", "wb") as file:
                for _ in range(size // MIB):
                    file.write(os.urandom(MIB))
        return folder

    def by_farrun():
        bare = timed(lambda: lab.detached(host, "--", "true"))
        folder, runs = fresh_files(), []
        inputs = [part for file in sorted(folder.iterdir()) for part in ("--input", file)]
        order = lambda: runs.append(lab.detached(host, *inputs, "--", "true"))
        whole = settled(lab, order, count * size)
        blobs = lab.state(host) / "blobs"
        for file in folder.iterdir():
            there = (blob for blob in blobs.iterdir() if blob.is_file())
            require(any(filecmp.cmp(file, blob, shallow=False) for blob in there), "other bytes arrived on the host")
        again = timed(lambda: runs.append(lab.detached(host, *inputs, "--", "true")))
        for run in runs:
            wait_ended(lab, run)
            shutil.rmtree(lab.state(host) / f"runs/{run}/inputs")
        for blob in (lab.state(host) / "blobs").rglob("*"):
            if blob.is_file():
                blob.unlink()
        shutil.rmtree(folder)
        return {"time": whole, "transfer": whole - bare, "again": again, "bare": bare}

    def by_scp():
        folder, destination = fresh_files(), lab.fresh("pushed")
        copy = ["scp", "-q", *lab.ssh_options(), "-P", lab.ports[link], *sorted(folder.iterdir()),
                f"{lab.user}@127.0.0.1:{destination}/"]
        seconds = settled(lab, lambda: call(copy), count * size)
        require(tree_equal(folder, destination), "a peer brought other bytes")
        shutil.rmtree(folder)
        shutil.rmtree(destination)
        return {"time": seconds, "transfer": seconds}

    what = f"{count} × {size // MIB} MiB, {link}"
    return Race([Row(f"launch with inputs of {what}", "–"),
                 Row(f"the same without what a launch takes, {what}", target, key="transfer"),
                 Row(f"launch with the same inputs again, {what}", "no content", key="again"),
                 Row(f"launch without inputs, {link}", "–", key="bare")],
                {"farrun": by_farrun, "scp alone": by_scp})
