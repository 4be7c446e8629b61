#!/usr/bin/env python3
"""Writes the routing that data/reference/logits.safetensors holds as a trace: one request a window of evaluation.bin.

    python3 tools/trace_of_reference.py --reference data/reference/logits.safetensors --prefill 32 \
        --out data/traces/evaluation.csv.gz

Positions 0..prefill-1 are step 0 (prefill), each later position a decode step of its own: attention is causal, so the
routing of a position is the same in one pass and token by token. The reference was recorded by tools/record_reference.py
with Transformers; this needs nothing but Python. The same input gives the same bytes.
"""
import argparse
import gzip
import io
import json
import math
import struct


def read_tensor(path, name):
    """The shape and the float32 values of one tensor."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        info = json.loads(file.read(length))[name]
        if info["dtype"] != "F32":
            raise SystemExit(f"{path}: {name}: got {info['dtype']}, expected F32")
        begin, end = info["data_offsets"]
        file.seek(8 + length + begin)
        data = file.read(end - begin)
    return info["shape"], struct.unpack(f"<{len(data) // 4}f", data)


def choose(logits, top_k):
    """The top_k experts, best first, and their softmax weights renormalised to sum 1."""
    best = sorted(range(len(logits)), key=lambda expert: (-logits[expert], expert))[:top_k]
    powers = [math.exp(logits[expert] - logits[best[0]]) for expert in best]
    return best, [power / sum(powers) for power in powers]


def rows(shape, values, prefill, top_k):
    windows, layers, positions, experts = shape
    for window in range(windows):
        for position in range(positions):
            for layer in range(layers):
                at = ((window * layers + layer) * positions + position) * experts
                best, weights = choose(values[at : at + experts], top_k)
                step = max(0, position - prefill + 1)
                yield (
                    f"{window},{step},{'decode' if step else 'prefill'},{position},{layer},"
                    f"{';'.join(map(str, best))},{';'.join(f'{weight:.6g}' for weight in weights)},0\n"
                )


def main():
    parser = argparse.ArgumentParser(description="Write the recorded reference routing as a trace.")
    parser.add_argument("--reference", required=True, help="safetensors file with router_logits")
    parser.add_argument("--prefill", type=int, required=True, help="positions of step 0")
    parser.add_argument("--top-k", type=int, default=2, help="experts a token takes")
    parser.add_argument("--out", required=True, help="trace to write, .csv.gz")
    arguments = parser.parse_args()
    shape, values = read_tensor(arguments.reference, "router_logits")
    text = io.StringIO()
    text.write("request,step,phase,position,layer,experts,weights,arrival_us\n")
    for row in rows(shape, values, arguments.prefill, arguments.top_k):
        text.write(row)
    with open(arguments.out, "wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
            packed.write(text.getvalue().encode())


if __name__ == "__main__":
    main()
