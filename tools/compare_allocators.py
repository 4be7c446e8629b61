#!/usr/bin/env python3
"""Evaluates every allocator's plan on the shipped model, within the same bytes: the table of docs/reproductions/own-model.md.

    tools/compare_allocators.py --program build/release/bin/moesaic
        [--quantiser rtn|gptq] [--bits 2,2.5,3,3.5] [--windows 512] [--backend cpu|cuda] [--jobs 2] [--out table.csv]
        [--per expert|projection]

Calibrates on the model's calibration tokens, lets every allocator make a plan within each budget, evaluates each distinct plan
on the first --windows windows of 256 evaluation tokens, and prints predicted and evaluated loss (bits per byte above float).
With --per projection the rivals are not other allocators but `optimal` itself, from losses of gate, up and down apart: one format
an expert (which shows what adding up losses of single matrices costs), one for gate and up and one for down, one for each.
Exit code 1 when another allocator's plan is better than `optimal` by more than one paired standard error (over windows), or
one with formats apart is worse than one format an expert.
"""
import argparse
import concurrent.futures
import csv
import os
import pathlib
import sys
import tempfile

from check_accuracy import MODEL, ROOT, WINDOWS, Bench, check_bits, check_count, check_program, mean_and_error, refuse, run

ALLOCATORS = ("optimal", "greedy", "hawq", "baq", "pmq", "frequency", "uniform", "random")
# What --tie says where losses of gate, up and down are known apart.
TIES = {"tied": ["--tie", "gate,up,down"], "gate,up": ["--tie", "gate,up"], "apart": []}
CALIBRATION = ROOT / "data/tokens/calibration.bin"


def formats_of(plan):
    """What decides the arithmetic: the formats of the experts."""
    return plan.read_text().split("experts:")[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--quantiser", choices=("rtn", "gptq"), default="rtn")
    parser.add_argument("--per", choices=("expert", "projection"), default="expert", help="what formats are chosen for")
    parser.add_argument("--bits", default="2,2.5,3,3.5")
    parser.add_argument("--windows", type=int, default=512)
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="evaluations at a time")
    parser.add_argument("--out", type=pathlib.Path, help="the table as CSV")
    options = parser.parse_args()
    check_program(options.program)
    for bits in options.bits.split(","):
        check_bits(bits)
    check_count("--windows", options.windows, 2, WINDOWS)  # an error bar takes two
    check_count("--jobs", options.jobs, 1)
    if options.out and (options.out.is_dir() or not os.access(options.out.parent, os.W_OK)):
        refuse("--out", f"'{options.out}'", "a file that can be written")
    quantiser = ["--quantiser", "gptq", "--calibration-tokens", CALIBRATION] if options.quantiser == "gptq" else []
    rows, failures = [], []

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tokens = folder / "tokens.bin"
        tokens.write_bytes((ROOT / "data/tokens/evaluation.bin").read_bytes()[: 256 * options.windows])
        bench = Bench(options.program, folder, tokens)
        calibrate = [options.program, "calibrate", "--model", MODEL, "--tokens", CALIBRATION, "--formats", "int1..int8,binary,ternary",
                     "--group", 64, "--quantiser", options.quantiser]
        run(*calibrate, "--out", folder / "sensitivity.csv")
        if options.per == "projection":
            run(*calibrate, "--per", "projection", "--out", folder / "projections.csv")

        plans = {}
        for bits in options.bits.split(","):
            for allocator in ALLOCATORS if options.per == "expert" else ALLOCATORS[:1]:
                plans[bits, allocator] = bench.map(bits, allocator, f"{bits}-{allocator}", quantiser=quantiser)
            for name, tie in TIES.items() if options.per == "projection" else ():
                plans[bits, name] = bench.map(bits, "optimal", f"{bits}-{name}", quantiser=[*quantiser, *tie], table="projections.csv")

        distinct = {formats_of(plan): plan for plan, _ in plans.values()}
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            evaluate = lambda plan: bench.evaluate(plan, "--backend", options.backend, "--threads", 1)
            real = pool.submit(evaluate, "none")
            losses = dict(zip(distinct, pool.map(evaluate, distinct.values())))
            real = real.result()
        print(f"{len(real)} windows, float {sum(real) / len(real):.6f} bits per byte, {options.quantiser}, {options.backend}")

        print("bits  allocator     bytes     budget  predicted  evaluated   above optimal")
        for (bits, allocator), (plan, facts) in plans.items():
            ours = losses[formats_of(plans[bits, "optimal"][0])]
            windows = losses[formats_of(plan)]
            above, error = mean_and_error([a - b for a, b in zip(windows, ours)])
            evaluated = (sum(windows) - sum(real)) / len(real)
            if options.per == "expert" and above < -error:
                failures.append(f"{allocator} at {bits} bits is better than optimal")
            if allocator in ("gate,up", "apart") and above > error:
                failures.append(f"{allocator} at {bits} bits is worse than whole experts")
            print(f"{bits:5s} {allocator:9s} {facts['memory_bytes']:9d}  {facts['memory_budget_bytes']:9d}  {facts['loss']:9.5f}  "
                  f"{evaluated:9.5f}  {above:+9.5f} +- {error:.5f}", flush=True)
            rows.append([options.quantiser, bits, allocator, facts["memory_bytes"], facts["memory_budget_bytes"], facts["loss"],
                         evaluated, above, error])

    if options.out:
        partial = options.out.with_name(options.out.name + ".tmp")
        with open(partial, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["quantiser", "bits", "allocator", "bytes", "budget", "predicted", "evaluated", "above_optimal", "stderr"])
            writer.writerows(rows)
        partial.replace(options.out)
    if failures:
        sys.exit("does not hold: " + ", ".join(failures))
    print("no allocator is better than optimal, no choice of more is worse, beyond one standard error")


if __name__ == "__main__":
    main()
