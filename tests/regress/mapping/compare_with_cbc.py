#!/usr/bin/env python3
"""The mapper's optimum equals COIN-OR CBC's on random tables for the shipped model. Exit code 77 (skipped) without cbc.

usage: compare_with_cbc.py PROGRAM [--cases N]
Losses are small integers, so that sums are exact in either program.
"""
import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
FORMATS = [("int", b) for b in range(1, 9)] + [("binary", 1), ("ternary", 2)]
EXPERTS = [(layer, expert) for layer in range(4) for expert in range(8)]


def write_table(path, losses):
    lines = ["layer,expert,format,bits,loss,frequency,weight"]
    for (layer, expert, (kind, bits)), loss in losses.items():
        lines.append(f"{layer},{expert},{kind},{bits},{loss},0.25,0.125")
    path.write_text("\n".join(lines) + "\n")


def run_map(program, folder, losses, budget):
    write_table(folder / "s.csv", losses)
    command = [program, "map", "--workload", ROOT / "configs/demo_workload.yaml", "--chip", ROOT / "chips/demo.yaml"]
    command += ["--sensitivity", folder / "s.csv", "--memory-budget", str(budget), "--out", folder / "plan.yaml", "--json"]
    return json.loads(subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout)


def run_cbc(folder, losses, sizes, budget):
    terms, sizes_sum, rows, names = [], [], [], []
    for layer, expert in EXPERTS:
        own = []
        for number, form in enumerate(FORMATS):
            name = f"x_{layer}_{expert}_{number}"
            names.append(name)
            own.append(name)
            terms.append(f"{losses[layer, expert, form]} {name}")
            sizes_sum.append(f"{sizes[form]} {name}")
        rows.append(f" one_{layer}_{expert}: " + " + ".join(own) + " = 1")
    text = "Minimize\n loss: " + "\n + ".join(terms) + "\nSubject To\n memory: " + "\n + ".join(sizes_sum)
    text += f" <= {budget}\n" + "\n".join(rows) + "\nBinary\n " + "\n ".join(names) + "\nEnd\n"
    (folder / "p.lp").write_text(text)
    solution = folder / "solution.txt"
    command = ["cbc", str(folder / "p.lp"), "ratioGap", "0", "allowableGap", "0", "solve", "solution", str(solution)]
    subprocess.run(command, capture_output=True, check=True)
    status, *chosen = solution.read_text().splitlines()
    if not status.startswith("Optimal"):
        sys.exit(f"cbc: {status}")
    # Re-evaluated in integers: cbc's own objective is a double.
    loss = size = 0
    for line in chosen:
        _, name, value, _ = line.split()
        if round(float(value)) == 1:
            _, layer, expert, number = name.split("_")
            form = FORMATS[int(number)]
            loss += losses[int(layer), int(expert), form]
            size += sizes[form]
    if size > budget:
        sys.exit(f"cbc: {size} bytes of {budget}")
    return loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--cases", type=int, default=12)
    options = parser.parse_args()
    if shutil.which("cbc") is None:
        print("skipped: no cbc (Debian package coinor-cbc)")
        sys.exit(77)
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sizes = {}
        for form in FORMATS:
            only = {(layer, expert, form): 1 for layer, expert in EXPERTS}
            sizes[form] = run_map(options.program, folder, only, 10**9)["memory_bytes"] // len(EXPERTS)
        for case in range(options.cases):
            losses = {}
            for layer, expert in EXPERTS:
                scale = rng.choice([100, 1000, 100000])
                for kind, bits in FORMATS:
                    losses[layer, expert, (kind, bits)] = rng.randrange(scale) // (bits if case % 2 else 1)
            budget = rng.randrange(min(sizes.values()) * 32, sizes["int", 6] * 32)
            ours = run_map(options.program, folder, losses, budget)
            theirs = run_cbc(folder, losses, sizes, budget)
            if ours["loss"] != theirs or ours["memory_bytes"] > budget:
                sys.exit(f"case {case}: moesaic {ours['loss']} in {ours['memory_bytes']} bytes, cbc {theirs}, budget {budget}")
    print(f"{options.cases} cases agree with cbc")


if __name__ == "__main__":
    main()
