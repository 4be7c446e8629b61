#!/usr/bin/env python3
"""Checks that #include directives point downward: a folder may include its own files and lower floors only.

usage: tools/check_includes.py [REPOSITORY]
Prints one line per offence, `file:line: includes X, expected a floor at or below Y`, and exits 1 if there is any.
"""
import pathlib
import re
import sys

# Folder -> folders it may include, besides itself. The order is the order of the floors in docs/architecture.md.
ALLOWED = {
    "base": [],
    "reference/numerics": ["base"],
    "reference/cuda": ["base", "reference/numerics"],
    "reference/quantise": ["base", "reference/numerics"],
    "workloads": ["base", "reference/numerics"],
    "models/memory": ["base"],
    "models/host": ["base", "reference/numerics"],
    "models/storage": ["base", "models/memory"],
    "reference/network": ["base", "reference/numerics", "reference/cuda", "reference/quantise", "workloads"],
    "mapping": ["base", "reference/numerics", "workloads"],
    "sim/program": ["base", "reference/numerics", "workloads", "models/memory", "models/storage", "models/host"],
    "sim/fast": ["base", "reference/numerics", "models/memory", "models/storage", "sim/program"],
    "sim/run": [
        "base", "reference/numerics", "reference/quantise", "workloads", "models/memory", "models/storage", "models/host",
        "reference/network", "sim/program", "sim/fast",
    ],
    "sim/profile": [
        "base", "reference/numerics", "workloads", "models/memory", "reference/network", "sim/program", "sim/run", "sim/fast",
    ],
    "sim/cycle": ["base", "reference/numerics", "models/memory", "sim/program"],
    "sim/cosim": ["base", "reference/numerics", "models/memory", "models/storage", "sim/program", "sim/fast", "sim/cycle"],
    "cli": None,  # may include everything
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def room(path: str) -> str:
    """The longest folder of ALLOWED that holds this path, or an empty string."""
    return max((name for name in ALLOWED if path.startswith(name + "/")), key=len, default="")


def offences(root: pathlib.Path):
    for top in sorted({name.split("/")[0] for name in ALLOWED}):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            where = path.relative_to(root).as_posix()
            own = room(where)
            if not own:
                yield f"{where}:1: folder: got no floor, expected one of {', '.join(ALLOWED)}"
                continue
            allowed = ALLOWED[own]
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match or allowed is None:
                    continue
                target = match.group(1)
                target_room = room(target)
                if target_room and target_room != own and target_room not in allowed:
                    yield f"{where}:{number}: include: got {target}, expected {own} or one of {', '.join(allowed)}"


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    found = list(offences(root))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
