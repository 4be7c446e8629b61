#!/usr/bin/env python3
"""The sweep of docs/simulate.md, run as it stands there, prints what the page says. usage: docs_sweep.py PROGRAM"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    page = (ROOT / "docs/simulate.md").read_text(encoding="utf-8").split("### Sweeping a parameter")[1]
    script, printed = re.findall(r"```(?:sh)?\n(.*?)```", page, re.DOTALL)[:2]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("chips", "configs", "data"):
            os.symlink(ROOT / name, pathlib.Path(folder) / name)
        path = f"{program.parent}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-eu", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True,
                              check=False)
    if done.returncode != 0 or done.stdout != printed:
        sys.exit(f"got exit status {done.returncode} and\n{done.stdout}{done.stderr}expected\n{printed}")


if __name__ == "__main__":
    main()
