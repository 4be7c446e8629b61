#!/usr/bin/env python3
"""docs/schemas and the program agree on what a chip, a workload and a plan file may say.

    schemas.py PROGRAM REPOSITORY

Every shipped file, and samples that between them use every key of the schemas, are valid and taken by the program; an
unknown key anywhere in them is refused by both, and so is every required key that is left out. Exit 1 and a line for
each disagreement.
"""
import copy
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import yaml

CHIP = {
    "name": "sample",
    "clock_mhz": 500,
    "array": {"rows": 16, "cols": 16, "planes_per_cycle": 2, "max_act_bits": 8},
    "axi_data_bits": 128,
    "buffers": {"max_tokens": 16, "activation_words": 256, "hidden_words": 1024, "reader_beats": 32, "commands": 8},
    "io_queue": {"descriptors": 16, "requests": 8, "jobs": 8},
    "layout": "plane_major",
    "formats": ["int2", "int4", "nested2", "nested4", "nested8", "int8"],
    "memory": {"kind": "simple", "read_latency_cycles": 10, "write_latency_cycles": 5, "bytes_per_cycle": 32},
    "stated_costs": {
        "norm": {"cycles": 20, "elements_per_cycle": 8},
        "router": {"cycles": 40, "macs_per_cycle": 256},
        "softmax": {"cycles": 20, "scores_per_cycle": 8},
    },
}
# The preset ddr5-6400, written out (docs/memory.md).
DRAM = {
    "kind": "dram", "preset": "ddr5-6400", "channels": 2, "width_bits": 32, "clock_period_fs": 312500,
    "transfers_per_clock": 2, "burst_length": 16, "bank_groups": 8, "banks": 4, "rows": 65536, "row_bytes": 4096,
    "mapping": "row:bank:column:bankgroup:channel", "read_queue": 32, "write_queue": 32, "write_high": 24,
    "write_low": 8, "starvation_cap": 16,
    "timing": {"tCL": 52, "tCWL": 50, "tRCD": 52, "tRCD_WR": 52, "tRP": 52, "tRP_AB": 52, "tRAS": 103, "tRC": 155,
               "tCCD_S": 8, "tCCD_L": 16, "tCCD_L_WR": 32, "tCCD_L_MWR": 64, "tRRD_S": 8, "tRRD_L": 16, "tFAW": 32,
               "tWR": 96, "tWTR_S": 8, "tWTR_L": 32, "tRTP": 24, "tRTW": 14, "tREFI": 12480, "tRFC": 944, "tCMD": 2},
}
STORAGE = {"kind": "nvme", "preset": "nvme-pcie4x4", "latency_ns": 50000, "bytes_per_second": 7000000000,
           "queue_depth": 32, "granularity_bytes": 512, "dma_bytes": 4096}
CACHE = {"policy": "lru", "capacity_experts": 6, "load_order": "hebf", "decision_cycles": 10,
         "prefetch": {"kind": "none"}, "start": "cold"}
WORKLOAD = {
    "trace": "data/traces/evaluation.csv.gz", "model": "data/model", "tokens": "data/tokens/evaluation.bin",
    "request_starts": [0, 256], "requests": [0], "steps": [2, 3], "layers": [0],
}


def resolve(schema, root):
    while "$ref" in schema:
        node = root
        for part in schema["$ref"].lstrip("#/").split("/"):
            node = node[part]
        schema = node
    return schema


def branches(schema, root):
    """The schema's object forms: itself and what its oneOf and $ref lead to."""
    schema = resolve(schema, root)
    found = [schema] if "properties" in schema else []
    for one in schema.get("oneOf", []) + schema.get("anyOf", []):
        found += branches(one, root)
    return found


def all_keys(schema, root, path=()):
    """Paths of all keys that the schema knows, () a list's items."""
    keys = set()
    schema = resolve(schema, root)
    if "items" in schema and isinstance(schema["items"], dict):
        keys |= all_keys(schema["items"], root, path + ("[]",))
    for one in branches(schema, root):
        for key, value in one["properties"].items():
            keys.add(path + (key,))
            keys |= all_keys(value, root, path + (key,))
    return keys


def used_keys(value, path=()):
    if isinstance(value, list):
        return set().union(*[used_keys(item, path + ("[]",)) for item in value]) if value else set()
    if not isinstance(value, dict):
        return set()
    return set().union(*[{path + (key,)} | used_keys(item, path + (key,)) for key, item in value.items()]) \
        if value else set()


def objects(value, path=()):
    """Paths of all objects in a document."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from objects(item, path + (key,))
    elif isinstance(value, list) and value:
        yield from objects(value[0], path + (0,))


def at(document, path):
    for part in path:
        document = document[part]
    return document


class Check:
    def __init__(self, program, repository):
        self.program, self.repository = program, pathlib.Path(repository)
        self.schemas = {}
        for kind in ("chip", "workload", "plan"):
            schema = json.loads((self.repository / "docs" / "schemas" / f"{kind}.schema.json").read_text())
            jsonschema.Draft202012Validator.check_schema(schema)
            self.schemas[kind] = schema
        self.used = {kind: set() for kind in self.schemas}
        self.faults = []
        self.compared = 0
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="moesaic_schemas."))

    def is_valid(self, kind, document):
        return jsonschema.Draft202012Validator(self.schemas[kind]).is_valid(document)

    def run(self, chip, workload, plan=None):
        """What the program says of the files: '' when it takes them."""
        files = {}
        for name, document in (("chip", chip), ("workload", workload), ("plan", plan)):
            if document is None:
                continue
            files[name] = self.folder / f"{name}.yaml"
            files[name].write_text(yaml.safe_dump(document, sort_keys=False))
        command = [self.program, "simulate", "--engine", "fast", "--no-data", "--chip", str(files["chip"]),
                   "--workload", str(files["workload"]), "--out", str(self.folder / "out")]
        if plan is not None:
            command += ["--plan", str(files["plan"])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 2):
            sys.exit(f"schemas: {' '.join(command)}: exit {done.returncode}: {done.stderr}")
        return "" if done.returncode == 0 else done.stderr.strip()

    def sample(self, kind, document, run):
        """`document` is taken by both; none of its broken copies is."""
        self.used[kind] |= used_keys(document)
        self.expect(kind, document, run, True, "a sample")
        for path in objects(document):
            forms = branches(self.schema_at(kind, path), self.schemas[kind])
            if not forms:  # any keys
                continue
            broken = copy.deepcopy(document)
            at(broken, path)["no_such_key"] = 1
            self.expect(kind, broken, run, False, f"an unknown key in {'.'.join(map(str, path)) or 'the document'}")
            for key in forms[0].get("required", []) if len(forms) == 1 else []:
                broken = copy.deepcopy(document)
                del at(broken, path)[key]
                self.expect(kind, broken, run, False, f"no {'.'.join(map(str, path + (key,)))}")

    def schema_at(self, kind, path):
        root = self.schemas[kind]
        schema = root
        for part in path:
            if isinstance(part, int):
                schema = resolve(schema, root)["items"]
                continue
            schema = next(one["properties"][part] for one in branches(schema, root) if part in one["properties"])
        return schema

    def expect(self, kind, document, run, good, what):
        self.compared += 1
        valid, said = self.is_valid(kind, document), run(document)
        if valid != good:
            self.faults.append(f"{kind}: {what}: the schema {'takes' if valid else 'refuses'} it")
        if (said == "") != good:
            self.faults.append(f"{kind}: {what}: the program {'takes it' if said == '' else 'says: ' + said}")


def table(check, layers, experts):
    """A sensitivity table and a cost table for the shipped model, made up."""
    losses, costs = ["layer,expert,format,bits,loss,frequency,weight"], ["layer,expert,format,cycles,2024"]
    for layer in range(layers):
        for expert in range(experts):
            for bits in (2, 4, 8):
                losses.append(f"{layer},{expert},nested,{bits},{(1 + layer + expert) / 4**bits},0.25,0.5")
                costs.append(f"{layer},{expert},nested{bits},{100 * bits},{bits}")
    (check.folder / "losses.csv").write_text("\n".join(losses) + "\n")
    (check.folder / "costs.csv").write_text("\n".join(costs) + "\n")
    return check.folder / "losses.csv", check.folder / "costs.csv"


def make(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"schemas: {' '.join(map(str, command))}: exit {done.returncode}: {done.stderr}")


def check_chips(check, workload):
    def run(document):
        return check.run(document, workload)

    check.sample("chip", CHIP, run)
    by_period = {key: value for key, value in CHIP.items() if key != "clock_mhz"}
    check.sample("chip", {**by_period, "clock_period_fs": 2000000, "memory": DRAM}, run)
    stored = {**CHIP, "storage": STORAGE, "cache": CACHE}
    check.sample("chip", stored, run)
    next_layer = {"kind": "next_layer", "recall": 0.8, "precision": 0.9, "seed": 1}
    sized = {key: value for key, value in CACHE.items() if key != "capacity_experts"}
    check.sample("chip", {**stored, "cache": {**sized, "capacity_bytes": 1 << 20, "prefetch": next_layer,
                                              "start": {"replay": 2}}}, run)


    # Without quotes YAML reads a number or a truth value.
    for name, good in ((16, True), (1.5, True), (True, True), ("", True), (None, False), ([16], False)):
        check.expect("chip", {**CHIP, "name": name}, run, good, f"a chip called {name!r}")


def check_workloads(check, workload):
    def run(document):
        return check.run(CHIP, document)

    (check.folder / "2024").symlink_to(workload["model"])
    (check.folder / "7").symlink_to(workload["tokens"])
    check.expect("workload", {**workload, "model": 2024, "tokens": 7}, run, True, "a folder and a file that are numbers")
    for key in ("model", "tokens"):
        for value in ("", None, [7]):
            check.expect("workload", {**workload, key: value}, run, False, f"{key} {value}")
    routing = {"prune_ratio": 0.1, "capacity_factor": 2.0, "round_to": 2, "renormalise": True}
    check.sample("workload", {**workload, "phase": "decode", "act_bits": 8, "batch_requests": 1, "max_tokens": 2,
                              "routing": routing}, run)
    trace = check.folder / "trace.csv"
    make([check.program, "workload", "synth", "--network", "DeepSeek-V2-Lite", "--out", str(trace), "--requests", "2",
          "--prompt-tokens", "1", "--decode-tokens", "1", "--arrival-gap-us", "5"])
    whole = {"shared_experts": "int4", "dense_layers": "int4", "attention": "int8", "head": "int8"}
    check.sample("workload", {"model": "DeepSeek-V2-Lite", "trace": str(trace), "layers": [0, 1],
                              "whole_layers": whole, "continuous_batching": {"max_requests": 2}}, run)


def check_plans(check, workload):
    def run(document):
        return check.run(CHIP, workload, document)

    config = json.loads((check.repository / "data" / "model" / "config.json").read_text())
    losses, costs = table(check, config["num_hidden_layers"], config["num_local_experts"])
    files = {}
    for name, document in (("chip", CHIP), ("workload", workload)):
        files[name] = check.folder / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(document, sort_keys=False))

    def plan(*options):
        out = check.folder / "plan.yaml"
        make([check.program, "map", "--workload", str(files["workload"]), "--chip", str(files["chip"]),
              "--sensitivity", str(losses), "--memory-budget", "64MiB", "--out", str(out), *options])
        return yaml.safe_load(out.read_text())

    simulated = plan("--latency-budget", "100000000cycles", "--no-cache")
    check.sample("plan", simulated, run)
    limited = plan("--costs", str(costs), "--limit", "2024=100000")
    check.sample("plan", limited, run)
    # Without quotes YAML reads a number or a truth value.
    for name, good in ((2024, True), (True, True), (None, False), ([2024], False)):
        limited["budgets"][-1]["name"] = name
        check.expect("plan", limited, run, good, f"a budget called {name}")
    limited["budgets"][-1].update(name="2024", unit=1)
    limited["solver"]["nodes"] = 3
    check.expect("plan", limited, run, True, "a unit and a fact that are numbers")
    tokens = check.repository / "data" / "tokens" / "calibration.bin"
    simulated["quantiser"] = {"kind": "gptq", "tokens": str(tokens),
                              "tokens_hash": hashlib.sha256(tokens.read_bytes()).hexdigest(), "window": 256,
                              "damping": 0.01, "minimum_tokens": 0}
    simulated["class_shares"] = [0.75, 0.25]
    simulated["experts"][0]["reads"] = [simulated["experts"][0]["format"], "nested2"]
    check.sample("plan", simulated, run)
    (check.folder / "2025").symlink_to(tokens)
    simulated["quantiser"]["tokens"] = 2025
    check.expect("plan", simulated, run, True, "calibration tokens in a file that is a number")
    apart = plan()
    apart["experts"][0]["format"] = dict.fromkeys(("gate", "up", "down"), apart["experts"][0]["format"])
    check.sample("plan", apart, run)


def main():
    check = Check(sys.argv[1], pathlib.Path(sys.argv[2]).resolve())
    for kind, pattern in (("chip", "chips/*.yaml"), ("workload", "configs/*.yaml")):
        files = sorted(check.repository.glob(pattern))
        if not files:
            sys.exit(f"schemas: no {pattern}")
        for file in files:
            check.compared += 1
            if not check.is_valid(kind, yaml.safe_load(file.read_text())):
                check.faults.append(f"{kind}: {file.name}: the schema refuses a shipped file")
    workload = {key: str(check.repository / value) if isinstance(value, str) else value
                for key, value in WORKLOAD.items()}
    try:
        check_chips(check, workload)
        check_workloads(check, workload)
        check_plans(check, workload)
    finally:
        shutil.rmtree(check.folder)
    for kind, schema in check.schemas.items():
        for path in sorted(all_keys(schema, schema) - check.used[kind]):
            check.faults.append(f"{kind}: no sample says {'.'.join(path)}")
    for fault in check.faults:
        print(fault)
    print(f"schemas: {check.compared} documents, {len(check.faults)} disagreements")
    sys.exit(1 if check.faults else 0)


if __name__ == "__main__":
    main()
