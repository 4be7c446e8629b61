#!/usr/bin/env python3
"""CBC ends with the command that runs it and at its time limit, and leaves no file. A script that never ends stands in for cbc.

usage: stopped_cbc.py PROGRAM
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
FAKE = """#!/bin/sh
[ "$1" = -quit ] && exit 0
echo $$ > "$FAKE_CBC_PID.new" && mv "$FAKE_CBC_PID.new" "$FAKE_CBC_PID"
while :; do sleep 0.1; done
"""


def is_alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def check(holds, text):
    if not holds:
        sys.exit(f"stopped_cbc.py: {text}")


def write_table(path):
    lines = ["layer,expert,format,bits,loss,frequency,weight"]
    lines += [f"{l},{e},int,{b},{l + e + 9 - b},0.25,0.125" for l in range(4) for e in range(8) for b in (2, 3, 4)]
    path.write_text("\n".join(lines) + "\n")


class Case:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.temporary, self.pid_file = folder / "tmp", folder / "pid"
        (folder / "bin").mkdir()
        self.temporary.mkdir()
        fake = folder / "bin/cbc"
        fake.write_text(FAKE)
        fake.chmod(0o755)
        self.environment = dict(os.environ, PATH=f"{folder}/bin:{os.environ['PATH']}", TMPDIR=str(self.temporary),
                                FAKE_CBC_PID=str(self.pid_file))
        write_table(folder / "s.csv")
        self.map = ["map", "--workload", ROOT / "configs/demo_workload.yaml", "--chip", ROOT / "chips/demo.yaml",
                    "--sensitivity", folder / "s.csv", "--memory-budget", "2.5bits", "--allocator", "cbc"]

    def start(self, *words):
        self.pid_file.unlink(missing_ok=True)
        return subprocess.Popen([str(w) for w in (self.program, *words)], env=self.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def cbc(self, process):
        while not self.pid_file.exists():
            check(process.poll() is None, f"ended before it ran cbc: {process.stderr.read() if process.poll() else ''}")
            time.sleep(0.01)
        return int(self.pid_file.read_text())

    def gone(self, pid, what):
        for _ in range(1000):  # the kernel's own time to end it
            if not is_alive(pid):
                break
            time.sleep(0.01)
        alive = is_alive(pid)
        if alive:
            os.kill(pid, signal.SIGKILL)
        check(not alive, f"{what}: cbc goes on")

    def nothing_left(self, what, seconds=0):
        end = time.monotonic() + seconds
        while (left := sorted(p.name for p in self.temporary.iterdir())) and time.monotonic() < end:
            time.sleep(0.01)
        check(not left, f"{what}: left {left}")

    def stopped_by(self, number, *words):
        process = self.start(*words)
        pid = self.cbc(process)
        process.send_signal(number)
        process.wait()
        what = f"{words[0]}, {signal.Signals(number).name}"
        self.gone(pid, what)
        check(process.returncode == -number, f"{what}: ended with {process.returncode}")
        self.nothing_left(what, 60 if number == signal.SIGKILL else 0)  # then another process removes it

    def stopped_at_limit(self, *words):
        process = self.start(*words)
        pid = self.cbc(process)
        output, errors = process.communicate()
        self.gone(pid, f"{words[0]} at its limit")
        self.nothing_left(f"{words[0]} at its limit")
        return process.returncode, output, errors


def main():
    with tempfile.TemporaryDirectory() as name:
        case = Case(sys.argv[1], pathlib.Path(name))
        says = "stopped 2 s beyond its time limit, nothing proved"
        for number in (signal.SIGINT, signal.SIGTERM):
            case.stopped_by(number, "map-benchmark", "--problem", "demo")
            case.stopped_by(number, *case.map)  # no limit at all
        code, output, errors = case.stopped_at_limit("map-benchmark", "--problem", "demo", "--cbc-seconds", "0.1")
        check(code == 0 and output.rstrip().endswith(says), f"map-benchmark at its limit: {code}, {output}, {errors}")
        code, output, errors = case.stopped_at_limit(*case.map, "--time-limit", "0.1", "--out", case.folder / "plan.yaml")
        check(code == 2 and says in errors and errors.count("\n") == 1, f"map at its limit: {code}, {output}, {errors}")
        check(not (case.folder / "plan.yaml").exists(), "map at its limit: a plan was written")
        case.stopped_by(signal.SIGKILL, "map-benchmark", "--problem", "demo")
    print("cbc ends with its command and at its limit")


if __name__ == "__main__":
    main()
