"""Who may import whom, and who may print: the laws of ARCHITECTURE.md as searches over the sources."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

PRINTING = r"\b(?:print|println|eprint|eprintln|dbg)!\s*[(\[{]|\bio::std(?:out|err)\(|(?<![.\w])std(?:out|err)\(\)"

# Laws that hold in tests as well.
EVERYWHERE = {"sea_orm only in the store and the migrations", "russh only in ssh", "bollard only in the agent's docker module", "nobody imports cli"}

# name, what is searched, where it is searched, where it is allowed
LAWS = [
    ("sea_orm only in the store and the migrations", r"\bsea_(?:orm|query|orm_migration)\b", ".",
     ["controller/src/store", "migrations"]),
    ("russh only in ssh", r"\brussh(?:_sftp)?\b", ".", ["controller/src/ssh"]),
    ("bollard only in the agent's docker module", r"\bbollard\b", ".",
     ["remote-agent/src/docker.rs", "remote-agent/src/docker"]),
    ("printing only in ui and the agent's frame writer", PRINTING, ".",
     ["controller/src/ui", "remote-agent/src/serve/writer.rs", "remote-agent/src/serve/mod.rs",
      "remote-agent/src/init", "remote-agent/src/main.rs"]),
    ("nobody imports cli", r"\b(?:crate|super|farrun)::cli\b", "controller/src",
     ["controller/src/cli", "controller/src/main.rs"]),
    ("ssh knows no run, store, cli or ui", r"\bcrate::(?:run|store|cli|ui|mirror|recipe)\b", "controller/src/ssh", []),
    ("store knows no ssh, host, agent or run story", r"\bcrate::(?:ssh|host|agent|run|mirror|cli|ui)\b",
     "controller/src/store", []),
    ("model does no input or output", r"\bcrate::(?!model\b)(?:ssh|host|agent|run|mirror|cli|ui|store|config)\b|\btokio::",
     "controller/src/model", []),
    ("diagnosis asks nobody: no host, store, story or command",
     r"\bcrate::(?:ssh|host|agent|run|mirror|cli|store|config|controller)\b|\btokio::", "controller/src/diagnosis", []),
    ("agent client and mirror know no store or ssh", r"\bcrate::(?:ssh|store|cli|ui|run)\b", "controller/src/agent", []),
    ("agent client and mirror know no store or ssh", r"\bcrate::(?:ssh|store|cli|ui|run)\b", "controller/src/mirror", []),
]

COMMENT = re.compile(r"^\s*//.*$|(?<=\s)//\s.*$", re.MULTILINE)
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
TESTS = re.compile(r"^#\[cfg\(test\)\]\s*(?:#\[[^\n]*\]\s*)*mod \w+ \{", re.MULTILINE)


def sources(below, with_tests):
    start = ROOT / below
    for path in sorted(start.rglob("*.rs")) if start.is_dir() else []:
        parts = path.relative_to(ROOT).parts
        if parts[0] in ("target", ".quickstart"):
            continue
        if with_tests or not ("tests" in parts or path.name == "tests.rs"):
            yield path


def code(path, with_tests):
    """The text without comments and strings, line numbers kept; and without its own test module, if so wanted."""
    text = path.read_text(encoding="utf-8")
    inline = TESTS.search(text)
    if inline and not with_tests:
        text = text[: inline.start()]
    text = STRING.sub('""', text)
    return COMMENT.sub("", text)


def main():
    broken = 0
    for name, pattern, below, allowed in LAWS:
        wanted = re.compile(pattern)
        with_tests = name in EVERYWHERE
        for path in sources(below, with_tests):
            relative = path.relative_to(ROOT).as_posix()
            if any(relative == place or relative.startswith(place + "/") for place in allowed):
                continue
            for number, line in enumerate(code(path, with_tests).splitlines(), 1):
                if wanted.search(line):
                    print(f"{relative}:{number}: {name}: {line.strip()}", file=sys.stderr)
                    broken += 1
    return 1 if broken else 0


sys.exit(main())
