#!/usr/bin/env python3
"""Checks on the shipped model that plans keep their promise, and prints the table of docs/mapping.md.

    tools/check_accuracy.py --program build/release/bin/moesaic            50 random plans, about 10 minutes on 2 cores

Calibrates on the model's calibration tokens, then evaluates on its evaluation tokens (512 windows of 256 bytes):
  - int8 everywhere is within 0.01 bits per byte of float;
  - the optimal plan at --bits on average has a lower loss than every seeded random plan within the same budget, than a half
    int2, half int3 split by expert index (either half first), and than as many random halves of the experts, each beyond one
    paired standard error (over windows);
  - GPTQ beats round-to-nearest with every expert in int2, and in int3, beyond three paired standard errors;
  - what is measured at 2.5 bits is what the tables of docs/mapping.md and docs/reproductions/own-model.md state.
Exit code 1 when one of these does not hold.
"""
import argparse
import csv
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "data/model"
WINDOWS = 512  # of 256 evaluation tokens


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(c) for c in command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def refuse(option, got, expected):
    """Bad usage: one line, exit code 2."""
    print(f"{pathlib.Path(sys.argv[0]).name}: {option}: got {got}, expected {expected}", file=sys.stderr)
    sys.exit(2)


def check_program(program):
    if not (program.is_file() and os.access(program, os.X_OK)):
        refuse("--program", f"'{program}'", "moesaic's program")


def check_count(option, value, least, most=None):
    if value < least or (most is not None and value > most):
        refuse(option, value, f"a number from {least} to {most}" if most is not None else f"a number of at least {least}")


def check_bits(text):
    try:
        bits = float(text)
    except ValueError:
        bits = math.nan
    if not (0 < bits < math.inf):
        refuse("--bits", f"'{text}'", "bits a weight, above 0")


def mean_and_error(values):
    mean = sum(values) / len(values)
    squares = sum((v - mean) ** 2 for v in values)
    return mean, math.sqrt(squares / (len(values) - 1) / len(values))


def stated(page, label):
    """The cells beside a label, in the first table of the page that has such a row."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    found = [row[1:] for row in rows if row[0] == label]
    if not found:
        sys.exit(f"docs/{page}: no row {label!r}")
    return found[0]


class Bench:
    def __init__(self, program, folder, tokens):
        self.program, self.folder, self.tokens = program, folder, tokens

    def evaluate(self, plan, *options, tokens=None):
        """Bits per byte of each window."""
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".csv", delete=False) as file:
            windows = pathlib.Path(file.name)
        run(self.program, "evaluate", "--model", MODEL, "--tokens", tokens or self.tokens, "--plan", plan, "--per-window", windows,
            *options)
        with open(windows, newline="") as file:
            return [float(row["bits_per_byte"]) for row in csv.DictReader(file)]

    def map(self, bits, allocator, name, seed=None, quantiser=(), table="sensitivity.csv"):
        plan = self.folder / f"{name}.yaml"
        command = [self.program, "map", "--workload", ROOT / "configs/demo_workload.yaml", "--chip", ROOT / "chips/demo.yaml"]
        command += ["--sensitivity", self.folder / table, "--memory-budget", f"{bits}bits"]
        command += ["--allocator", allocator, "--out", plan, "--json", *quantiser]
        if seed is not None:
            command += ["--seed", seed]
        return plan, json.loads(run(*command))

    def split(self, like, name, widths, memory_bytes):
        """A plan of int widths, one an expert in the order of layer and expert."""
        head = like.read_text().split("group_size:")[0]
        lines = [line for line in head.splitlines() if not line.startswith("  sensitivity")]
        lines += ["group_size: 64", f"memory_bytes: {memory_bytes}", "loss: 0", "experts:"]
        for index, width in enumerate(widths):
            lines.append(f"  - {{layer: {index // 8}, expert: {index % 8}, format: int{width}}}")
        plan = self.folder / f"{name}.yaml"
        plan.write_text("\n".join(lines) + "\n")
        return plan


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--plans", type=int, default=50, help="random plans, and random halves")
    parser.add_argument("--halves", type=int, help="random halves (default: as many as random plans)")
    parser.add_argument("--bits", default="2.5")
    parser.add_argument("--gptq-windows", type=int, default=512, help="windows on which the quantisers are compared")
    options = parser.parse_args()
    halves = options.plans if options.halves is None else options.halves
    check_program(options.program)
    check_count("--plans", options.plans, 0)
    check_count("--halves", halves, 0)
    check_bits(options.bits)
    check_count("--gptq-windows", options.gptq_windows, 2, WINDOWS)  # an error bar takes two
    failures = []

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        bench = Bench(options.program, folder, ROOT / "data/tokens/evaluation.bin")
        run(options.program, "calibrate", "--model", MODEL, "--tokens", ROOT / "data/tokens/calibration.bin", "--formats",
            "int1..int8,binary,ternary", "--group", 64, "--out", folder / "sensitivity.csv")

        real = bench.evaluate("none")
        print(f"{len(real)} windows, {255 * len(real)} predicted bytes")
        print(f"float                  {sum(real) / len(real):.6f} bits per byte")

        def agree(what, found, page):
            if found != page:
                failures.append(f"{what}: got {found}, the page states {page}")

        def report(label, windows, bound=None, baseline=real, row=None):
            mean, error = mean_and_error([a - b for a, b in zip(windows, baseline)])
            if row is not None:
                cells = [f"{sum(windows) / len(windows):.6f}", f"{mean:.6f} ± {error:.6f}"]
                agree(label, cells, [cell for cell in stated("mapping.md", row) if cell])
            print(f"{label:22s} {sum(windows) / len(windows):.6f}  {mean:+.6f} +- {error:.6f}", flush=True)
            if bound is not None and not bound(mean, error):
                failures.append(label)

        report("int8", bench.evaluate("int8"), lambda mean, error: abs(mean) <= 0.01, row="int8")
        plan, facts = bench.map(options.bits, "optimal", "optimal")
        budget = facts["memory_budget_bytes"]
        optimal = bench.evaluate(plan)
        at_page = options.bits == "2.5"
        report(f"optimal {options.bits} bits", optimal, row="optimal, 2.5 bits" if at_page else None)
        if at_page:
            agree("float", f"{sum(real) / len(real):.6f}", stated("mapping.md", "float")[0])
            agree("predicted", f"{facts['loss']:.4f}", stated("reproductions/own-model.md", "`optimal`, predicted")[1])
            increase = mean_and_error([a - b for a, b in zip(optimal, real)])[0]
            agree("evaluated", f"{increase:.4f}", stated("reproductions/own-model.md", "`optimal`, evaluated")[1])
        print(f"  {facts['memory_bytes']} bytes of {budget}, predicted {facts['loss']:+.6f}, {facts['experts']}")

        tokens = folder / "some.bin"
        tokens.write_bytes((ROOT / "data/tokens/evaluation.bin").read_bytes()[: 256 * options.gptq_windows])
        print(f"GPTQ above round-to-nearest, {options.gptq_windows} windows:")
        for plan_name in ("int2", "int3"):
            nearest = bench.evaluate(plan_name, tokens=tokens)
            ours = bench.evaluate(plan_name, "--quantiser", "gptq", "--calibration-tokens", ROOT / "data/tokens/calibration.bin",
                                  tokens=tokens)
            report(f"{plan_name} gptq", ours, lambda mean, error: mean < -3 * error, nearest)

        print("above the optimal plan:")
        beaten = lambda mean, error: mean > error
        report("half int2, half int3", bench.evaluate(bench.split(plan, "half", [2, 2, 2, 2, 3, 3, 3, 3] * 4, budget)),
               beaten, optimal, "experts 0..3 int2, 4..7 int3" if at_page else None)
        report("half int3, half int2", bench.evaluate(bench.split(plan, "half", [3, 3, 3, 3, 2, 2, 2, 2] * 4, budget)),
               beaten, optimal, "experts 0..3 int3, 4..7 int2" if at_page else None)
        for seed in range(1, halves + 1):
            widths = [2, 3] * 16
            random.Random(seed).shuffle(widths)
            report(f"random half {seed}", bench.evaluate(bench.split(plan, "half", widths, budget)), beaten, optimal)
        for seed in range(1, options.plans + 1):
            drawn, facts = bench.map(options.bits, "random", "random", seed)
            if facts["memory_bytes"] > budget:
                failures.append(f"bytes of random {seed}")
            report(f"random {seed}", bench.evaluate(drawn), beaten, optimal)

    if failures:
        sys.exit("does not hold: " + ", ".join(failures))
    print("all of it holds")


if __name__ == "__main__":
    main()
