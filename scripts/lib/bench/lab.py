"""The laboratory: an SSH server, a Docker engine, proxies and a home for farrun, all below one folder."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from delay_proxy import DelayProxy

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIB = 1024 * 1024
IMAGE = "farrun-bench-busybox:1"
APPLETS = ("sh", "true", "sleep", "head", "yes", "seq", "cat", "date", "mkdir", "dd", "echo")
LOOPBACK, FAR, NARROW = "loopback", "50 ms", "50 ms, 3 MiB window"
# Which host of farrun's is reached over which link.
HOSTS = {LOOPBACK: "near", FAR: "far", NARROW: "narrow"}


def call(command, **options):
    """Runs a command, fails loudly, answers its standard output as bytes unless that goes elsewhere."""
    options.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=options.pop("timeout", 900), **options)
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        raise RuntimeError(f"`{shown}` ended with {done.returncode}: {done.stderr[-2000:].decode(errors='replace')}")
    return done.stdout


def common(script, *arguments):
    """Runs a function of scripts/lib/common.sh."""
    text = f'set -euo pipefail; ROOT={ROOT}; . "{ROOT}/scripts/lib/common.sh"; {script}'
    # A file and no pipe: what stays in the background would hold a pipe open.
    with tempfile.TemporaryFile() as said:
        subprocess.run(["bash", "-c", text, "bench", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL,
                       stdout=said)
        said.seek(0)
        return said.read().decode().strip()


class Lab:
    """Everything a case needs to run farrun and its peers over the same links to the same machine."""

    def __init__(self, folder, options):
        self.folder, self.quick = folder, options.quick
        self.number, self.closing = 0, contextlib.ExitStack()
        self.user = call(["id", "-un"]).decode().strip()
        # Built before anything is started: a build can take minutes.
        self.program, self.agents = self.programs(options)

    def open(self):
        """Starts what has to be ended by [`close`], however far this came."""
        # What a login on the host finds. The start-up files of this account are left out: they cost every contestant
        # the same and say nothing about any of them. A stand-in for a tool of the host goes into `host_programs`.
        self.host_programs, login = self.folder / "host-programs", self.folder / "login"
        self.host_programs.mkdir()
        login.mkdir()
        self.host_environment = {"PATH": f"{self.host_programs}:/usr/local/bin:/usr/bin:/bin", "HOME": login}
        port = int(common("free_port"))
        self.closing.callback(self.end_server)
        common('start_sshd "$1" "$2" "${@:3}" >/dev/null', self.folder / "sshd", port, "MaxStartups 400", "PermitUserEnvironment FARRUN_LOCKS",
               "SetEnv " + " ".join(f"{name}={value}" for name, value in self.host_environment.items()))
        self.proxies = {FAR: DelayProxy(port, 0.025), NARROW: DelayProxy(port, 0.025, 3 * MIB)}
        for proxy in self.proxies.values():
            self.closing.callback(proxy.close)
        self.ports = {LOOPBACK: port, **{link: proxy.port for link, proxy in self.proxies.items()}}
        self.engine = self.folder / "engine"
        self.closing.callback(common, 'stop_engine "$1"', self.engine)
        common('start_engine "$1" >/dev/null 2>&1', self.engine)
        self.docker_url = f"unix://{self.engine}/docker.sock"
        self.import_image()
        self.home = self.new_home("home")
        for link, host in HOSTS.items():
            self.add_host(host, link)

    def close(self):
        """Ends everything that was started, the last first."""
        self.closing.close()

    def end_server(self):
        # Its sessions outlive it.
        for pid in self.below(common('cat "$1/sshd/sshd.pid" 2>/dev/null || true', self.folder)):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid), 15)

    def below(self, pid):
        """A process and all its descendants, as text."""
        found = [pid] if pid else []
        parents = {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents.setdefault(stat.read_text().rpartition(")")[2].split()[1], []).append(stat.parent.name)
        for one in found:
            found.extend(parents.get(one, []))
        return found

    @staticmethod
    def programs(options):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        if not options.program:
            call(["cargo", "build", "--locked", "--release", "--quiet", "-p", "farrun"], cwd=ROOT, timeout=3600)
            call([ROOT / "scripts/build-agent"], timeout=3600)
        program = pathlib.Path(options.program or target / "release/farrun").resolve()
        return program, pathlib.Path(options.agents or target / "agents").resolve()

    def import_image(self):
        root = self.folder / "image"
        (root / "bin").mkdir(parents=True)
        busybox = next(p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p))
        shutil.copy(busybox, root / "bin/busybox")
        for applet in APPLETS:
            os.symlink("busybox", root / "bin" / applet)
        (root / "tmp").mkdir()
        call(["tar", "-C", root, "--owner=0", "--group=0", "-cf", self.folder / "image.tar", "."])
        self.docker("import", "--change", "ENV PATH=/bin", "--change", 'CMD ["/bin/sh"]',
                    self.folder / "image.tar", IMAGE)

    def docker(self, *arguments):
        return call(["docker", "-H", self.docker_url, *arguments])

    # --- farrun ---

    def new_home(self, name):
        """A home in which farrun has no hosts and no runs yet, and every server is known."""
        home = self.folder / name
        (home / ".ssh").mkdir(parents=True)
        line = (self.folder / "sshd/known_hosts").read_text()
        known = "".join(line.replace(f":{self.ports[LOOPBACK]} ", f":{port} ") for port in self.ports.values())
        for place in (home / ".ssh", self.folder):
            (place / "known_hosts").write_text(known)
        return home

    def add_host(self, name, link, home=None, connect=True, identity=None):
        """Adds a host whose state folder is `state(name)`."""
        self.farrun("host", "add", name, "--address", f"{self.user}@127.0.0.1:{self.ports[link]}", "--identity",
                    identity or self.folder / "sshd/identity", "--docker-host", self.docker_url, "--state", self.state(name),
                    *([] if connect else ["--no-connect"]), home=home)

    def environment(self, home=None):
        home = home or self.home
        return {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb",
                "XDG_CONFIG_HOME": f"{home}/.config", "XDG_STATE_HOME": f"{home}/.local/state",
                "XDG_DATA_HOME": f"{home}/.local/share", "FARRUN_OUTPUTS": f"{home}/outputs",
                "FARRUN_AGENTS": str(self.agents)}

    def farrun(self, *arguments, home=None, **options):
        home = home or self.home
        return call([self.program, *arguments], env=self.environment(home), cwd=home, **options)

    @contextlib.contextmanager
    def running(self, command, **options):
        """A process in the background that ends with the block."""
        options.setdefault("stdout", subprocess.DEVNULL)
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def following(self, run, **options):
        """`farrun logs -f` in the background."""
        return self.running([self.program, "logs", "-f", run], env=self.environment(), cwd=self.home, **options)

    def detached(self, host, *arguments):
        """Starts a run and answers its id; `arguments` are farrun's, then `--`, then the job's."""
        text = self.farrun("run", IMAGE, "--network", "none", "--host", host, "--detach", "--json", *arguments).decode()
        start = text.find('"rs_')
        if start < 0:
            raise RuntimeError(f"no run id in {text[:300]}")
        return text[start + 1:text.index('"', start + 1)]

    def shell(self, host, script, *arguments):
        """As [`detached`], for a job that is a line of shell."""
        return self.detached(host, *arguments, "--", "/bin/sh", "-c", script)

    def state(self, host):
        return self.folder / f"state-{host}"

    def outputs(self, host, run):
        """The folder of a run's outputs on the host."""
        return self.state(host) / f"runs/{run}/outputs"

    # --- the peers ---

    def ssh(self, link):
        return ["ssh", *self.ssh_options(), "-p", str(self.ports[link]), f"{self.user}@127.0.0.1"]

    def ssh_options(self):
        return ["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
                "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-i", str(self.folder / "sshd/identity")]

    def ssh_line(self, link):
        return " ".join(["ssh", *self.ssh_options(), "-p", str(self.ports[link])])

    def fresh(self, name):
        """An empty folder."""
        self.number += 1
        path = self.folder / "work" / f"{name}-{self.number}"
        path.mkdir(parents=True)
        return path
