"""`farrun status` with figures of GPUs: a stand-in for `nvidia-smi` on the hosts, which counts how often it is run."""

import concurrent.futures
import contextlib
import pathlib
import shutil
import time

from .control import after_the_link
from .lab import FAR, HOSTS, LOOPBACK, call
from .measure import Race, Row, require, timed

GPUS = 8
# How long figures serve all who ask, in seconds.
TIME_TO_LIVE = 2
# Built-ins of a static shell only: what the stand-in costs is spent on the same processors and is not farrun's. What
# it answered once it keeps.
STAND_IN = """#!{shell} sh
echo "$1" >> {calls}
case "$1" in
--query-gpu=*) fields=${{1#--query-gpu=}} ;;
--query-compute-apps=*) exit 0 ;;
*) echo "| NVIDIA-SMI 550.54    Driver Version: 550.54    CUDA Version: 12.4 |"; exit 0 ;;
esac
if [ -e {calls}.known ]; then
    . {calls}.known
    if [ "$known" = "$fields" ]; then echo "$answer"; exit 0; fi
fi
IFS=,
n=0
answer=
while [ $n -lt {gpus} ]; do
    line=
    for field in $fields; do
        case $field in
        index) value=$n ;;
        uuid) value=GPU-0000000$n-feed-4000-8000-00000000c0de ;;
        name) value="NVIDIA H100 80GB HBM3" ;;
        pci.bus_id) value=00000000:0$n:00.0 ;;
        driver_version) value=550.54 ;;
        memory.total | memory.free) value=81559 ;;
        memory.used | memory.reserved | utilization.*) value=0 ;;
        temperature.gpu) value=33 ;;
        power.draw) value=62.50 ;;
        compute_mode) value=Default ;;
        mig.mode.current) value=Disabled ;;
        *) value="[N/A]" ;;
        esac
        line="$line${{line:+, }}$value"
    done
    answer="$answer${{answer:+
}}$line"
    n=$((n + 1))
done
echo "$answer"
echo "known='$fields' answer='$answer'" > {calls}.$$
mv {calls}.$$ {calls}.known
"""
QUERY = "nvidia-smi --query-gpu=index,uuid,name,memory.used,utilization.gpu --format=csv,noheader,nounits"


@contextlib.contextmanager
def stand_in(lab):
    """Hosts have GPUs for as long as this lasts; answers the file that has a line for each run of the stand-in."""
    calls, program = lab.folder / "nvidia-smi-calls", lab.host_programs / "nvidia-smi"
    calls.touch()
    shell = next(place for place in ("/bin/busybox", "/usr/bin/busybox") if pathlib.Path(place).exists())
    program.write_text(STAND_IN.format(shell=shell, calls=calls, gpus=GPUS))
    program.chmod(0o755)
    # What was found is believed for an hour, also that there is nothing.
    lab.farrun("gpu", "--detect")
    try:
        yield calls
    finally:
        program.unlink()
        lab.farrun("gpu", "--detect")


def figures(text):
    """How many GPUs a report in JSON names with their figures."""
    return text.decode().replace(": ", ":").count('"memory_total":81559')


def status(lab):
    """`farrun status` with figures of GPUs: one host, many at once, and many who ask at once."""
    with stand_in(lab) as calls:
        for link, target in ((LOOPBACK, "≤ 50 ms"), (FAR, "≤ 1 round trip + 50 ms (100 ms)")):
            host = HOSTS[link]
            seen = figures(lab.farrun("status", host, "--json"))
            require(seen == GPUS, f"{seen} of {GPUS} GPUs are shown")
            yield Race([Row(f"`farrun status`, one host with {GPUS} GPUs, {link}", "–"),
                        Row(f"the same after the link is up, {link}", target, key="after")],
                       {"farrun": lambda host=host: after_the_link(lab, "status", host),
                        "ssh nvidia-smi": lambda link=link: timed(lambda: call([*lab.ssh(link), QUERY]))})
        yield many(lab)
        yield together(lab, calls)


def many(lab):
    """Many hosts, each with a state folder, locks and so turns and figures of its own."""
    count = 20 if lab.quick else 100
    home, keys = lab.new_home("many-gpus"), lab.fresh("keys")
    welcome = []
    for index in range(count):
        name = f"gpus{index}"
        lab.state(name).mkdir(mode=0o700)
        call(["cp", "-al", lab.state(HOSTS[LOOPBACK]) / "agents", lab.state(name) / "agents"])
        # Readings of one host take turns, so each has locks of its own: they come with the key of the login.
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name])
        welcome.append(f'environment="FARRUN_LOCKS={keys}/locks-{name}" {(keys / f"{name}.pub").read_text()}')
        lab.add_host(name, LOOPBACK, home=home, connect=False, identity=keys / name)
        lab.closing.callback(shutil.rmtree, lab.state(name), ignore_errors=True)
    with open(lab.folder / "sshd/authorized_keys", "a") as file:
        file.writelines(welcome)

    def by_farrun():
        said = []
        seconds = timed(lambda: said.append(lab.farrun("status", "--json", home=home)))
        up = said[0].decode().replace(": ", ":").count('"link":"up"')
        require(up == count, f"only {up} of {count} hosts are up")
        # Where the machine is busy a reading may come too late for this answer; it serves the next.
        return {"time": seconds, "known": figures(said[0]) / (count * GPUS) * 100}

    def by_ssh():
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return timed(lambda: list(pool.map(lambda _: call([*lab.ssh(LOOPBACK), QUERY]), range(count))))

    return Race([Row(f"`farrun status`, {count} hosts with {GPUS} GPUs each", "< 2 s"),
                 Row("the same: GPUs whose figures are in the answer", "100 %", key="known", unit="%")],
                {"farrun": by_farrun, "ssh nvidia-smi on each": by_ssh})


def together(lab, calls):
    """Several who ask one host for its figures again and again: how often `nvidia-smi` is run for them."""
    clients, seconds = 4, 6
    host = HOSTS[LOOPBACK]

    def queries():
        return sum(line.startswith("--query-gpu") for line in calls.read_text().splitlines())

    def repeatedly(ask):
        before, start = queries(), time.monotonic()

        def client(_):
            asked = 0
            while time.monotonic() - start < seconds:
                ask()
                asked += 1
            return asked

        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            asked = sum(pool.map(client, range(clients)))
        spans = (time.monotonic() - start) / TIME_TO_LIVE
        return {"runs": (queries() - before) / spans, "asked": asked / spans}

    return Race([Row(f"runs of `nvidia-smi` in {TIME_TO_LIVE} s while {clients} clients ask all the time", "≤ 1, + 1 at the edge",
                     key="runs", unit="runs"),
                 Row("the same: answers in that time", "–", key="asked", unit="answers")],
                {"farrun": lambda: repeatedly(lambda: lab.farrun("gpu", host)),
                 "ssh nvidia-smi": lambda: repeatedly(lambda: call([*lab.ssh(LOOPBACK), QUERY]))})
