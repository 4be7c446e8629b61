#!/usr/bin/env python3
"""Checks `moesaic kernel` against a second implementation that shares no code with it.

Draws cases of its own, writes them with its own safetensors writer, runs the program, and compares the output files byte
for byte with what the formulas of docs/numerics.md give in Python's unbounded integers (so that an overflow would show).

    independent.py PROGRAM [--backend cpu] [--cases 150] [--seed 1]

Exit code 0 when all are equal, 1 at the first difference (whose files are kept and named).
"""
import argparse
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

PACK = {"I8": "b", "U8": "B", "I16": "h", "U16": "H", "I64": "q"}
ROM = [math.floor(32768 / (1 + math.exp(-i / 8)) + 0.5) for i in range(65)]


def safetensors_bytes(tensors, metadata=None):
    """tensors: name -> (dtype, shape, flat values)."""
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name in sorted(tensors):
        dtype, shape, values = tensors[name]
        data = struct.pack("<%d%s" % (len(values), PACK[dtype]), *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def clamp(v, bits):
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, v))


def shift(v, t):
    return v if t == 0 else (v >> t) + ((v >> (t - 1)) & 1)


def weight(kind, bits, code, zero_point):
    """What a code is worth, by the definition of its format and not by planes. MWQ: the base alone."""
    if kind == "mwq":
        base, _, stored = bits
        return code // 2 ** stored - zero_point
    if kind == "int":
        return code - zero_point
    if kind == "nested":
        middle = (1 << (7 - bits)) if bits < 8 else 0
        return (code >> (8 - bits) << (8 - bits)) + middle - zero_point
    return 2 * code - 1 if kind == "binary" else code - 1


def product(x, w, group):
    """x [M][K]; w has codes [N][K], z and s [N][groups]."""
    out = []
    for row in x:
        out.append([])
        for n, codes in enumerate(w["codes"]):
            total = sum(w["s"][n][k // group] * weight(w["kind"], w["bits"], codes[k], w["z"][n][k // group]) * row[k]
                        for k in range(len(row)))
            if w["kind"] == "mwq":
                _, read, stored = w["bits"]
                for level in range(read):  # level 0 here is the first below the base: the highest of the `stored` low bits
                    total += sum(w["levels"][level][n][k // group] * (row[k] if codes[k] >> (stored - 1 - level) & 1 else -row[k])
                                 for k in range(len(row)))
            out[-1].append(total)
    return out


def requantise(acc, w, shifts, bits):
    return [[clamp(shift(a * w["mu"][n], w["sigma"][n] + e), bits) for n, a in enumerate(row)]
            for row, e in zip(acc, shifts)]


def sigmoid(g):
    a = abs(g)
    if a >= 8192:
        s = ROM[64]
    else:
        i, f = a >> 7, a & 127
        s = ROM[i] + (((ROM[i + 1] - ROM[i]) * f + 64) >> 7)
    return 32768 - s if g < 0 else s


def swiglu(g, u, sigma_h):
    return clamp(shift(shift(g * sigmoid(g), 15) * u, sigma_h), 16)


def hidden_shift(row, bits):
    e = 0
    while any(clamp(shift(h, e), bits) != shift(h, e) for h in row):
        e += 1
    return e


def flat(rows):
    return [v for row in rows for v in row]


def draw_weights(rng, kind, bits, n, k, group, act_bits):
    groups = (k - 1) // group + 1
    stored = bits[2] if kind == "mwq" else 0
    top = {"nested": 255, "binary": 1, "ternary": 2}.get(kind) or 2 ** (bits[0] + stored if kind == "mwq" else bits) - 1
    limit = ((1 << 47) - 1) // (k * (1 << (act_bits - 1)) * 255 * (1 + stored))
    most = min(65535, limit, rng.choice([1, 15, 255, 65535]))
    ends = rng.random() < 0.2
    code = (lambda: rng.choice([0, top])) if ends else (lambda: rng.randint(0, top))
    return {"kind": kind, "bits": bits,
            "codes": [[code() for _ in range(k)] for _ in range(n)],
            "z": [[rng.choice([0, 255, rng.randint(0, 255)]) for _ in range(groups)] for _ in range(n)],
            "s": [[rng.choice([0, most, rng.randint(0, most), rng.randint(0, most)]) for _ in range(groups)] for _ in range(n)],
            "levels": [[[rng.choice([0, most, rng.randint(0, most)]) for _ in range(groups)] for _ in range(n)]
                       for _ in range(stored)],
            "mu": [rng.choice([0, 65535, rng.randint(0, 65535), rng.randint(0, 65535)]) for _ in range(n)],
            "sigma": [0] * n}


def tune(rng, acc, w, bits, lo, hi):
    for n in range(len(w["mu"])):
        most = max(abs(row[n]) for row in acc) * w["mu"][n]
        w["sigma"][n] = max(lo, min(hi, most.bit_length() - bits + 1 + rng.randint(-1, 2)))


def weight_tensors(prefix, w, with_zero_point):
    n, k, groups = len(w["codes"]), len(w["codes"][0]), len(w["s"][0])
    tensors = {prefix + "w": ("U8", [n, k], flat(w["codes"])),
               prefix + "group_multiplier": ("U16", [n, groups], flat(w["s"])),
               prefix + "requant_multiplier": ("U16", [n], w["mu"]),
               prefix + "requant_shift": ("U8", [n], w["sigma"])}
    if with_zero_point:
        tensors[prefix + "zero_point"] = ("U8", [n, groups], flat(w["z"]))
    if w["levels"]:
        tensors[prefix + "level_multiplier"] = ("U16", [len(w["levels"]), n, groups], flat(flat(w["levels"])))
    return tensors


def draw_case(rng):
    """(case bytes, expected output bytes, words)."""
    op = rng.choice(["mpgemm", "mpgemm", "expert", "combine"])
    m = rng.randint(1, 5)
    if op == "combine":
        e, h = rng.randint(1, 6), rng.randint(1, 20)
        down = [[[rng.choice([-32768, 32767, rng.randint(-32768, 32767)]) for _ in range(h)] for _ in range(m)] for _ in range(e)]
        r = [[rng.choice([0, 32768, 65535, rng.randint(0, 32768)]) for _ in range(e)] for _ in range(m)]
        y = [[clamp(shift(sum(r[t][x] * down[x][t][i] for x in range(e)), 15), 16) for i in range(h)] for t in range(m)]
        case = safetensors_bytes({"down": ("I16", [e, m, h], flat(flat(down))), "r": ("U16", [m, e], flat(r))}, {"op": op})
        return case, safetensors_bytes({"y": ("I16", [m, h], flat(y))}), op

    kind, bits = rng.choice([("int", b) for b in range(1, 9)] + [("nested", b) for b in range(1, 9)] +
                            [("binary", 1), ("ternary", 2)] +
                            [("mwq", (base, rng.randint(0, stored), stored))
                             for base, stored in [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1), (4, 4), (7, 1)]])
    act_bits = rng.choice([4, 8, 16])
    group = 8 * rng.choice([1, 2, 3, 4, 8, 16])
    k = rng.choice([1, 7, 8, 9, rng.randint(1, 80)])
    top = 1 << (act_bits - 1)
    ends = rng.random() < 0.2
    x = [[rng.choice([-top, top - 1]) if ends else rng.randint(-top, top - 1) for _ in range(k)] for _ in range(m)]
    shifts = [rng.randint(0, 9) for _ in range(m)] if rng.random() < 0.5 else None
    e = shifts or [0] * m
    has_zero_point = kind in ("int", "nested", "mwq") or rng.random() < 0.5
    name, width = kind, bits
    if kind == "mwq":
        base, read, stored = bits
        name = "mwq%d+%d" % (base, read) + ("of%d" % stored if read < stored else "")
        width = base + read
    metadata = {"format": name, "bits": str(width), "group_size": str(group), "act_bits": str(act_bits)}
    tensors = {"x": ("I16" if act_bits == 16 else "I8", [m, k], flat(x))}
    if shifts:
        tensors["token_shift"] = ("U8", [m], shifts)

    if op == "mpgemm":
        n = rng.randint(1, 12)
        w = draw_weights(rng, kind, bits, n, k, group, act_bits)
        out_bits = rng.choice([4, 8, 16])
        acc = product(x, w, group)
        assert all(abs(a) < 1 << 47 for a in flat(acc))
        tune(rng, acc, w, out_bits, 0, 62 - max(e))
        y = requantise(acc, w, e, out_bits)
        tensors.update(weight_tensors("", w, has_zero_point))
        metadata["out_bits"] = str(out_bits)
        if rng.random() < 0.5:
            metadata["op"] = "mpgemm"
        out = {"acc": ("I64", [m, n], flat(acc)), "y": ("I16" if out_bits == 16 else "I8", [m, n], flat(y))}
        return safetensors_bytes(tensors, metadata), safetensors_bytes(out), "mpgemm %s bits %d act%d" % (name, width, act_bits)

    inner, sigma_h = rng.randint(1, 24), 0
    gate = draw_weights(rng, kind, bits, inner, k, group, act_bits)
    up = draw_weights(rng, kind, bits, inner, k, group, act_bits)
    down = draw_weights(rng, kind, bits, k, inner, group, act_bits)
    gate_acc, up_acc = product(x, gate, group), product(x, up, group)
    tune(rng, gate_acc, gate, 13, 0, 62 - max(e))
    tune(rng, up_acc, up, 15, 0, 62 - max(e))
    g, u = requantise(gate_acc, gate, e, 16), requantise(up_acc, up, e, 16)
    most = max(abs(shift(a * sigmoid(a), 15) * b) for a, b in zip(flat(g), flat(u)))
    sigma_h = max(0, min(31, most.bit_length() - 15 + rng.randint(-1, 4)))
    h = [[swiglu(a, b, sigma_h) for a, b in zip(gr, ur)] for gr, ur in zip(g, u)]
    eh = [hidden_shift(row, act_bits) for row in h]
    down_x = [[shift(v, s) for v in row] for row, s in zip(h, eh)]
    down_acc = product(down_x, down, group)
    tune(rng, down_acc, down, 16, max(eh), 62 + min(eh))
    y = requantise(down_acc, down, [-s for s in eh], 16)
    for prefix, w in (("gate.", gate), ("up.", up), ("down.", down)):
        tensors.update(weight_tensors(prefix, w, has_zero_point))
    metadata.update(op="expert", sigma_h=str(sigma_h))
    out = {"h": ("I16", [m, inner], flat(h)), "y": ("I16", [m, k], flat(y))}
    return safetensors_bytes(tensors, metadata), safetensors_bytes(out), "expert %s bits %d act%d" % (name, width, act_bits)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="moesaic-independent-")
    case_path, out_path = os.path.join(folder, "case.safetensors"), os.path.join(folder, "out.safetensors")
    for i in range(options.cases):
        case, expected, words = draw_case(random.Random(options.seed * 1000003 + i))
        with open(case_path, "wb") as f:
            f.write(case)
        done = subprocess.run([options.program, "kernel", "--in", case_path, "--backend", options.backend, "--out", out_path],
                              stderr=subprocess.PIPE, text=True)
        got = open(out_path, "rb").read() if done.returncode == 0 else b""
        if got != expected:
            with open(os.path.join(folder, "expected.safetensors"), "wb") as f:
                f.write(expected)
            print("case %d (%s) differs: exit %d %s; files in %s" % (i, words, done.returncode, done.stderr.strip(), folder))
            return 1
        os.remove(out_path)
    os.remove(case_path)
    os.rmdir(folder)
    print("%d cases equal" % options.cases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
