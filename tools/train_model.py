#!/usr/bin/env python3
"""Trains the small byte-level Mixtral-architecture model that moesaic ships.

    python3 tools/train_model.py --text moby_dick.txt grimm_tales.txt shakespeare.txt wikitext2_valid.txt --out data/model

Each text gives two contiguous held-out slices to validation; the rest is trained on in random windows. The weights with the
lowest validation loss are kept, rounded to bfloat16, saved in Hugging Face format, read back and evaluated: the figures in
metrics.json are those of the checkpoint as saved. Training stops early when the loss has not fallen for `--patience`
evaluations. Project Gutenberg's header and licence are cut off, so that the model learns the book alone.
Needs torch, transformers 5 and, to be quick, a GPU. The same seed gives the same data order and start, but a GPU's sums may
differ in their last bits from run to run.
"""

import argparse
import copy
import datetime
import math
import os
import re
import time
import types

import byte_model  # first: it says what is missing

import torch
import torch.nn.functional as F
import transformers

HELD_OUT = ((0.30, 0.34), (0.70, 0.74))  # of each text, as fractions of its length


def parse_arguments():
    parser = argparse.ArgumentParser(description="Train the byte-level Mixtral-architecture model that ships.")
    parser.add_argument("--text", nargs="+", required=True, help="text files, read as bytes")
    parser.add_argument("--out", required=True, help="folder for config.json, model.safetensors and metrics.json")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=128, help="hidden size")
    parser.add_argument("--intermediate", type=int, default=256, help="intermediate size of an expert")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--top-k", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--window", type=int, default=256, help="bytes a training window")
    parser.add_argument("--batch", type=int, default=64, help="windows a step")
    parser.add_argument("--steps", type=int, default=5000, help="length of the learning-rate schedule")
    parser.add_argument("--warmup", type=int, default=200, help="steps of linear warm-up")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1, help="of embeddings, attention outputs and expert outputs")
    parser.add_argument("--balance", type=float, default=0.005, help="weight of the load-balance loss, summed over layers")
    parser.add_argument("--evaluate-every", type=int, default=200, help="steps between evaluations")
    parser.add_argument("--patience", type=int, default=8, help="evaluations without a better loss before stopping")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def strip_gutenberg(data):
    """The book between Project Gutenberg's START and END lines; other texts as they are."""
    start = re.search(rb"\*\*\* START OF THE PROJECT GUTENBERG EBOOK[^\n]*\n", data)
    end = re.search(rb"\*\*\* END OF THE PROJECT GUTENBERG EBOOK", data)
    return data[start.end() : end.start()].strip() + b"\n" if start and end else data


def split(data):
    """(pieces to train on, bytes to validate on)."""
    edges = [int(len(data) * fraction) for pair in HELD_OUT for fraction in pair]
    pieces = [data[: edges[0]], data[edges[1] : edges[2]], data[edges[3] :]]
    return pieces, data[edges[0] : edges[1]] + data[edges[2] : edges[3]]


def build_model(arguments):
    config = transformers.MixtralConfig(
        vocab_size=256,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.intermediate,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.kv_heads,
        head_dim=arguments.hidden // arguments.heads,
        max_position_embeddings=512,
        num_local_experts=arguments.experts,
        num_experts_per_tok=arguments.top_k,
        router_aux_loss_coef=arguments.balance,
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.MixtralForCausalLM(config)
    byte_model.use_plain_experts(model)
    return model


def compute_all_experts(model):
    """Trains every expert on every token with weight 0 where it was not chosen: the same function and gradient, but two
    large products instead of a loop that waits for the GPU at each expert."""

    def forward(self, hidden_states, top_k_index, top_k_weights):
        tokens, hidden = hidden_states.shape
        experts, double, _ = self.gate_up_proj.shape
        gate_up = F.linear(hidden_states, self.gate_up_proj.reshape(experts * double, hidden))
        gate, up = gate_up.view(tokens, experts, double).chunk(2, dim=-1)
        share = torch.zeros(tokens, experts, device=hidden_states.device, dtype=gate.dtype)
        share = share.scatter(1, top_k_index, top_k_weights.to(gate.dtype))
        inner = F.silu(gate) * up * share.unsqueeze(-1)
        down = self.down_proj.permute(0, 2, 1).reshape(experts * (double // 2), hidden)
        return inner.reshape(tokens, -1) @ down

    for module in byte_model.experts_of(model):
        module.forward = types.MethodType(forward, module)


def add_dropout(model, probability):
    """Drops parts of what embeddings, attention and experts add to the residual stream, in training only."""

    def hook(module, _, output):
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (F.dropout(output[0], probability),) + output[1:]
        return F.dropout(output, probability)

    for name, module in model.named_modules():
        if name.endswith((".embed_tokens", ".self_attn", ".mlp")):
            module.register_forward_hook(hook)


def load_balance(router_logits, top_k):
    """Sum over layers of experts * sum_e (share of choices) * (mean probability): top_k when even."""
    total = 0.0
    for logits in router_logits:
        probability = logits.float().softmax(dim=-1)
        chosen = F.one_hot(probability.topk(top_k, dim=-1).indices, logits.shape[-1]).float().sum(dim=1)
        total = total + logits.shape[-1] * (chosen.mean(dim=0) * probability.mean(dim=0)).sum()
    return total


def learning_rate_at(step, arguments):
    if step < arguments.warmup:
        return arguments.learning_rate * (step + 1) / arguments.warmup
    progress = (step - arguments.warmup) / max(1, arguments.steps - arguments.warmup)
    return arguments.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))))


def train(model, pieces, held_out, arguments):
    """(best state, its validation loss, its step, steps run)."""
    device = arguments.device
    data = byte_model.as_tensor(b"".join(pieces)).to(device)
    generator = torch.Generator(device=device).manual_seed(arguments.seed)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": arguments.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.95), fused=device != "cpu")
    offsets = torch.arange(arguments.window + 1, device=device)
    best, best_loss, best_step, waited, step = None, float("inf"), 0, 0, 0
    started = time.monotonic()
    for step in range(1, arguments.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step - 1, arguments)
        starts = torch.randint(len(data) - arguments.window, (arguments.batch, 1), generator=generator, device=device)
        batch = data[starts + offsets].long()
        model.train()
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            out = model(input_ids=batch[:, :-1], use_cache=False, output_router_logits=True)
        loss = F.cross_entropy(out.logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss = loss + arguments.balance * load_balance(out.router_logits, arguments.top_k)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % arguments.evaluate_every and step != arguments.steps:
            continue
        model.eval()
        now = byte_model.bits_per_byte(model, held_out, arguments.window)["bits_per_byte"]
        print(f"step {step} validation {now:.4f} bits/byte, {time.monotonic() - started:.0f} s", flush=True)
        if now < best_loss:
            best, best_loss, best_step, waited = copy.deepcopy(model.state_dict()), now, step, 0
        else:
            waited += 1
            if waited >= arguments.patience:
                break
    return best, best_loss, best_step, step


def save_rounded(model, folder):
    """Writes config.json and model.safetensors in bfloat16."""
    model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)  # says nothing: the model has no special tokens


def describe_importance(model, held_out, window):
    """How much the loss rises when experts are rounded: all at once, and one at a time to 2 bits."""
    short = b"".join(held_out[i : i + window] for i in range(0, len(held_out) - window + 1, window * 6))
    base = byte_model.bits_per_byte(model, short, window)["bits_per_byte"]
    together = {}
    for bits in (8, 4, 3, 2):
        with byte_model.rounded_experts(model, bits):
            together[f"int{bits}"] = byte_model.bits_per_byte(model, short, window)["bits_per_byte"] - base
    alone = []
    for layer in range(model.config.num_hidden_layers):
        row = []
        for expert in range(model.config.num_local_experts):
            with byte_model.rounded_experts(model, 2, {(layer, expert)}):
                row.append(byte_model.bits_per_byte(model, short, window)["bits_per_byte"] - base)
        alone.append(row)
    return {"bytes": len(short), "all_experts": together, "one_expert_at_int2": alone}


def main():
    arguments = parse_arguments()
    byte_model.use_plain_settings()
    torch.manual_seed(arguments.seed)
    texts = {}
    for path in arguments.text:
        name = os.path.splitext(os.path.basename(path))[0]
        if name in texts:
            raise byte_model.InputError(f"{path}: name: got {name} twice, expected texts of different names")
        texts[name] = strip_gutenberg(byte_model.read_bytes(path))
        if len(texts[name]) < 100 * arguments.window:
            raise byte_model.InputError(f"{path}: length: got {len(texts[name])} bytes, expected at least 100 windows")
    pieces, held_out = [], {}
    for name, data in texts.items():
        kept, held_out[name] = split(data)
        pieces += kept
    everything_held_out = b"".join(held_out.values())

    model = build_model(arguments).to(arguments.device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {sum(map(len, pieces))} bytes to train on, {len(everything_held_out)} held out")
    compute_all_experts(model)
    add_dropout(model, arguments.dropout)
    started = time.monotonic()
    best, best_loss, best_step, steps = train(model, pieces, everything_held_out, arguments)
    seconds = time.monotonic() - started

    saved = build_model(arguments)
    saved.load_state_dict(best)
    os.makedirs(arguments.out, exist_ok=True)
    save_rounded(saved, arguments.out)
    model = byte_model.load_model(arguments.out, arguments.device)
    for name, value in model.state_dict().items():
        if not torch.equal(value.cpu(), best[name].to(torch.bfloat16).float().cpu()):
            raise RuntimeError(f"{name}: the checkpoint as read back differs from the weights rounded to bfloat16")

    counts = torch.bincount(byte_model.as_tensor(b"".join(pieces)).long(), minlength=256).tolist()
    checkpoint = os.path.join(arguments.out, "model.safetensors")
    metrics = {
        "what": "byte-level Mixtral-architecture model, bfloat16; losses are of the saved checkpoint in float32",
        "parameters": parameters,
        "sha256": {"model.safetensors": byte_model.sha256_of(checkpoint)},
        "checkpoint_bytes": os.path.getsize(checkpoint),
        "texts": {name: {"bytes": len(data), "held_out_bytes": len(held_out[name])} for name, data in texts.items()},
        "held_out_fractions": HELD_OUT,
        "validation_bits_per_byte": {
            **{name: byte_model.bits_per_byte(model, data, arguments.window) for name, data in held_out.items()},
            "all": byte_model.bits_per_byte(model, everything_held_out, arguments.window),
        },
        "validation_bits_per_byte_before_rounding": best_loss,
        "expert_load": byte_model.expert_load(model, everything_held_out, arguments.window),
        "loss_increase_when_rounded": describe_importance(model, everything_held_out, arguments.window),
        "best_step": best_step,
        "steps": steps,
        "train_seconds": round(seconds, 1),
        "options": {k: v for k, v in vars(arguments).items() if k not in ("text", "out")},
        "gpu": torch.cuda.get_device_name() if arguments.device != "cpu" else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
        "byte_counts": counts,
    }
    byte_model.write_json(os.path.join(arguments.out, "metrics.json"), metrics)
    for name, result in metrics["validation_bits_per_byte"].items():
        print(f"{name}: {result['bits_per_byte']:.4f} bits/byte over {result['predicted']} bytes")


if __name__ == "__main__":
    byte_model.run_tool(main)
