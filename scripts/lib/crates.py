"""Licences, sources and version floors of every crate in Cargo.lock, from `cargo metadata` alone."""

import json
import pathlib
import re
import subprocess
import sys

try:
    import tomllib
except ModuleNotFoundError:  # Python before 3.11, as on Ubuntu 22.04
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Lowest versions without a known fault that matters here. Advisory databases list few of russh's.
FLOORS = {
    "russh": "0.65.1",  # 0.63.1: forged exit statuses; 0.65.1: the version whose limits were measured
    "russh-sftp": "3.0.1",
    "bytes": "1.11.1",  # integer overflow in reserve
    "tracing-subscriber": "0.3.20",  # escape sequences in logged text
    "chrono": "0.4.20",
    "tokio": "1.38.2",
    "rustix": "1.0.0",
}
PINS = {
    "libsqlite3-sys": "0.37.0",  # SQLite before 3.51.3 can corrupt a WAL file that several processes write
    "bollard": "0.21.1",  # 0.22 refuses older engines
}
BANNED = {"tar", "openssl", "openssl-sys"}
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def number(version):
    return tuple(int(part) for part in re.split(r"[-+]", version)[0].split("."))


def allowed(expression, licences):
    """Whether an SPDX expression can be met by the allowed licences."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression.replace(" WITH ", "\0"))
    python = []
    for token in tokens:
        if token in ("AND", "OR", "(", ")", "/"):
            python.append({"AND": "and", "OR": "or", "/": "or"}.get(token, token))
        else:
            python.append(str(token.replace("\0", " WITH ") in licences))
    return bool(python) and eval(" ".join(python), {"__builtins__": {}})  # only True, False, and, or, ( and )


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    licences = set(rules["licenses"]["allow"])
    answer = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"], cwd=ROOT, capture_output=True, text=True
    )
    if answer.returncode:
        sys.exit(answer.stderr)
    faults = []
    seen = {}
    for package in json.loads(answer.stdout)["packages"]:
        name, version = package["name"], package["version"]
        seen.setdefault(name, []).append(version)
        if package["source"] is None:
            continue
        if package["source"] != REGISTRY:
            faults.append(f"{name} {version} comes from {package['source']}")
        if not allowed(package["license"] or "", licences):
            faults.append(f"{name} {version} is under `{package['license']}`, which deny.toml does not allow")
        if name in BANNED:
            faults.append(f"{name} {version} is banned")
        if name in FLOORS and number(version) < number(FLOORS[name]):
            faults.append(f"{name} {version} is below {FLOORS[name]}")
        if name in PINS and version != PINS[name]:
            faults.append(f"{name} is {version} and not {PINS[name]}")
    faults += [f"{name} is not in Cargo.lock any more: drop its rule" for name in PINS if name not in seen]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
