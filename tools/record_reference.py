#!/usr/bin/env python3
"""Records what the float32 model says, so that other forward passes can be compared with it.

    python3 tools/record_reference.py --model data/model --tokens data/tokens/evaluation.bin data/tokens/calibration.bin \
        --out data/reference/logits.safetensors

Writes for the first windows of the first token file, computed on the CPU in float32 from the checkpoint's weights:
    tokens        uint8   [window, position]
    logits        float32 [window, position, byte]
    router_logits float32 [window, layer, position, expert]
    experts       uint8   [window, layer, position, choice]    best first
and adds the loss on each whole token file to the model's metrics.json as `reference_bits_per_byte`.
"""

import argparse
import json
import os

import byte_model  # first: it says what is missing

import safetensors.torch
import torch


def parse_arguments():
    parser = argparse.ArgumentParser(description="Record reference logits, routing and losses of the float32 model.")
    parser.add_argument("--model", required=True, help="folder of the model and its metrics.json")
    parser.add_argument("--tokens", nargs="+", required=True, help="files of raw bytes, one token a byte")
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument("--windows", type=int, default=2, help="windows to record logits of")
    parser.add_argument("--window", type=int, default=256, help="bytes a window")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="for the losses")
    return parser.parse_args()


@torch.no_grad()
def record(model, tokens):
    out = model(input_ids=tokens.long(), use_cache=False, output_router_logits=True)
    count, length = tokens.shape
    routers = torch.stack([logits.float().view(count, length, -1) for logits in out.router_logits], dim=1)
    experts = routers.topk(model.config.num_experts_per_tok, dim=-1).indices
    return {
        "tokens": tokens,
        "logits": out.logits.float().contiguous(),
        "router_logits": routers.contiguous(),
        "experts": experts.to(torch.uint8).contiguous(),
    }


def main():
    arguments = parse_arguments()
    files = {path: byte_model.read_bytes(path) for path in arguments.tokens}
    model = byte_model.load_model(arguments.model, "cpu")
    windows = byte_model.windows_of(files[arguments.tokens[0]], arguments.window)[: arguments.windows]
    tensors = record(model, windows.to(torch.uint8))
    os.makedirs(os.path.dirname(os.path.abspath(arguments.out)), exist_ok=True)
    safetensors.torch.save_file(tensors, arguments.out)

    model = model.to(arguments.device)
    metrics_path = os.path.join(arguments.model, "metrics.json")
    with open(metrics_path, encoding="utf-8") as file:
        metrics = json.load(file)
    losses = {os.path.basename(path): byte_model.bits_per_byte(model, data, arguments.window) for path, data in files.items()}
    metrics["reference_bits_per_byte"] = losses
    byte_model.write_json(metrics_path, metrics)
    for name, result in losses.items():
        print(f"{name}: {result['bits_per_byte']:.6f} bits/byte +- {result['stderr']:.6f} over {result['predicted']}")


if __name__ == "__main__":
    byte_model.run_tool(main)
