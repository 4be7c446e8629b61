#!/usr/bin/env python3
"""Samples windows of bytes from the byte-level model itself at temperature 1.

    python3 tools/sample_tokens.py --model data/model --windows 512 --seed 2 --out data/tokens/evaluation.bin

Each window is a fresh sample: its first byte is drawn from the training texts' byte distribution (`byte_counts` in the
model's metrics.json), the rest from the model, with no top-k and no top-p. Because the text comes from the model, what a
quantised copy loses on it estimates the divergence from the full-precision model. The file is raw bytes, one token a byte,
windows one after another.
"""

import argparse
import json
import os

import byte_model  # first: it says what is missing

import torch


def parse_arguments():
    parser = argparse.ArgumentParser(description="Sample bytes from the model at temperature 1.")
    parser.add_argument("--model", required=True, help="folder of the model and its metrics.json")
    parser.add_argument("--out", required=True, help="file of raw bytes to write")
    parser.add_argument("--windows", type=int, required=True)
    parser.add_argument("--window", type=int, default=256, help="bytes a window")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


@torch.no_grad()
def sample(model, first, length, generator):
    """[windows, length] uint8 that begin with the bytes `first`."""
    drawn, cache = [first], None
    for _ in range(length - 1):
        out = model(input_ids=drawn[-1].unsqueeze(1), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        probability = out.logits[:, -1].float().softmax(dim=-1)
        drawn.append(torch.multinomial(probability, 1, generator=generator).squeeze(1))
    return torch.stack(drawn, dim=1).to(torch.uint8)


def main():
    arguments = parse_arguments()
    metrics = os.path.join(arguments.model, "metrics.json")
    with open(metrics, encoding="utf-8") as file:
        counts = json.load(file).get("byte_counts", [])
    if len(counts) != 256:
        raise byte_model.InputError(f"{metrics}: byte_counts: got {len(counts)} numbers, expected 256")
    model = byte_model.load_model(arguments.model, arguments.device)
    generator = torch.Generator(device=arguments.device).manual_seed(arguments.seed)
    share = torch.tensor(counts, dtype=torch.float32, device=arguments.device)
    first = torch.multinomial(share, arguments.windows, replacement=True, generator=generator)
    tokens = sample(model, first, arguments.window, generator).cpu()
    os.makedirs(os.path.dirname(os.path.abspath(arguments.out)), exist_ok=True)
    with open(arguments.out, "wb") as file:
        file.write(bytes(tokens.flatten().tolist()))
    print(f"{arguments.out}: {tokens.numel()} bytes in {arguments.windows} windows")


if __name__ == "__main__":
    byte_model.run_tool(main)
