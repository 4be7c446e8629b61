#!/usr/bin/env python3
"""Runs the quick commands of docs/reproductions/baq.md and d2moe.md as the pages give them, and compares what they print with the
pages' tables, digit by digit.

usage: pages.py PROGRAM
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
failures = []


def page(name):
    return (ROOT / "docs/reproductions" / name).read_text(encoding="utf-8")


def run(program, folder, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def rows_under(text, header):
    """The cells of the table whose header line begins so."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(header)]
    if len(starts) != 1:
        sys.exit(f"{len(starts)} tables with the header {header!r}, expected one")
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def block(text, begin, end):
    """What stands between two marks, each there once."""
    if text.count(begin) != 1 or end not in text.split(begin)[1]:
        sys.exit(f"{begin!r} ... {end!r}: expected on the page, once")
    return text.split(begin)[1].split(end)[0]


def same(what, found, stated):
    print(f"{what}: {found}")
    if found != stated:
        failures.append(f"{what}: got {found}, the page states {stated}")


def check_baq(program, folder):
    text = page("baq.md")
    source = block(text, "python3 - > baq.csv <<'EOF'\n", "    EOF\n")
    table = subprocess.run([sys.executable, "-"], input=re.sub(r"^    ", "", source, flags=re.MULTILINE), capture_output=True, text=True,
                           check=True)
    (folder / "baq.csv").write_text(table.stdout)
    if "moesaic map --sensitivity baq.csv --bits-budget 320bits --allocator all" not in text:
        sys.exit("baq.md: another command than this test runs")
    for bits, *stated in rows_under(text, "| average bits | `baq` |"):
        budget = f"{round(128 * float(bits))}bits"
        found = json.loads(run(program, folder, "map", "--sensitivity", "baq.csv", "--bits-budget", budget, "--allocator", "all", "--json"))
        losses = {entry["allocator"]: f"{entry['loss']:.6f}" for entry in found if "loss" in entry}
        for allocator, value in zip(("baq", "optimal", "uniform"), stated, strict=True):
            same(f"baq.md, {bits} bits, {allocator}", losses[allocator], value)


def check_d2moe(program, folder):
    """The order of loads of one width: one step, the first four layers."""
    text = page("d2moe.md")
    synth = re.findall(r"^    moesaic workload synth (.*) --out t\.csv\.gz\n    moesaic simulate --engine fast --no-data --plan nested4 --chip "
                       r"chip\.yaml --workload workload\.yaml --out out$", text, flags=re.MULTILINE)
    if len(synth) != 1:
        sys.exit("d2moe.md: other commands than this test runs")
    run(program, folder, "workload", "synth", *synth[0].split(), "--out", "t.csv.gz")
    workload = block(text, "`workload.yaml`:\n\n```yaml\n", "```").replace("steps: [1, 2, 3, 4]", "steps: [1]\nlayers: [0, 1, 2, 3]")
    (folder / "workload.yaml").write_text(workload)
    chip = block(text, "`chip.yaml`, with `capacity_bytes` and `load_order` as in the tables:\n\n```yaml\n", "```")
    for storage, fifo, hebf, ratio, _ in rows_under(text, "| storage | cycles, `fifo` | cycles, `hebf` | `fifo` / `hebf` | share"):
        if storage not in ("host-pcie4x16", "nvme-pcie5x4"):
            continue
        cycles = {}
        for order, stated in (("fifo", fifo), ("hebf", hebf)):
            own = chip.replace("kind: nvme, preset: nvme-pcie4x4", f"kind: {storage.split('-')[0]}, preset: {storage}")
            (folder / "chip.yaml").write_text(own.replace("load_order: fifo", f"load_order: {order}"))
            found = json.loads(run(program, folder, "simulate", "--engine", "fast", "--no-data", "--plan", "nested4", "--chip", "chip.yaml",
                                   "--workload", "workload.yaml", "--json", "--out", f"{storage}-{order}"))
            cycles[order] = found["cycles"]
            same(f"d2moe.md, {storage}, {order}", f"{found['cycles']:,}", stated)
        same(f"d2moe.md, {storage}, fifo / hebf", f"{cycles['fifo'] / cycles['hebf']:.3f}", ratio)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        check_baq(program, pathlib.Path(name))
        check_d2moe(program, pathlib.Path(name))
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
