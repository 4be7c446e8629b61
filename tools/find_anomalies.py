#!/usr/bin/env python3
"""Looks for scheduling anomalies: runs of `moesaic simulate` that differ in one thing that should only help, and take longer.

usage: tools/find_anomalies.py [--program build/release/bin/moesaic] [--chip chips/r16c16p2a8-ddr5.yaml] [--layers 4]
                               [--requests 2] [--tokens 1,2,3,5,8] [--latency]

By default compares each format int1..int8 with the one of a bit less, on slices of the shipped model's trace: every layer, the
first tokens of every request. With --latency compares DRAM timings instead: tRCD, tCL and tRP of the chip's preset, a clock less
each time. Runs are timed only (fast engine, no data). Prints every pair in which less work or a faster memory took more
cycles, the greatest loss last, and exits 1 when there is none.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cycles(program, folder, chip, workload, plan):
    out = folder / "run"
    subprocess.run(
        [program, "simulate", "--engine", "fast", "--no-data", "--chip", chip, "--workload", workload, "--plan", plan, "--out", out],
        check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "summary.json").read_text())["cycles"]


def slices(folder, arguments):
    """One workload file for each slice, and what it holds."""
    path = folder / "workload.yaml"
    for layer in range(arguments.layers):
        for request in range(arguments.requests):
            for tokens in arguments.tokens:
                path.write_text(
                    f"model: {ROOT}/data/model\ntrace: {ROOT}/data/traces/evaluation.csv.gz\n"
                    f"layers: [{layer}]\nrequests: [{request}]\nmax_tokens: {tokens}\n")
                yield path, f"layer {layer}, request {request}, {tokens} tokens"


def with_timing(text, **timing):
    """The chip file's text with a memory whose timings are these."""
    fields = ", ".join(f"{name}: {clocks}" for name, clocks in timing.items())
    return re.sub(r"memory: \{(.*)\}", rf"memory: {{\1, timing: {{{fields}}}}}", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/moesaic"))
    parser.add_argument("--chip", default=str(ROOT / "chips/r16c16p2a8-ddr5.yaml"))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2)
    parser.add_argument("--tokens", type=lambda text: [int(t) for t in text.split(",")], default=[1, 2, 3, 5, 8])
    parser.add_argument("--latency", action="store_true")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for workload, what in slices(folder, arguments):
            runs = []
            if arguments.latency:
                text = pathlib.Path(arguments.chip).read_text()
                for clocks in range(46, 38, -1):
                    chip = folder / "chip.yaml"
                    chip.write_text(with_timing(text, tRCD=clocks))
                    runs.append((f"tRCD {clocks}", cycles(arguments.program, folder, chip, workload, "int4")))
            else:
                for bits in range(8, 0, -1):
                    runs.append((f"int{bits}", cycles(arguments.program, folder, arguments.chip, workload, f"int{bits}")))
            for (more, slow), (less, fast) in zip(runs, runs[1:]):
                if fast > slow:
                    found.append((fast - slow, f"{what}: {more} takes {slow} cycles, {less} {fast}"))
    for _, text in sorted(found):
        print(text)
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
