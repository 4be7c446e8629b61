"""What the tools share about the byte-level model: load it, evaluate it, change its experts.

A token is one byte. Losses are bits per byte over windows that start at 0, W, 2W, ...; each window predicts its bytes
1..W-1 from those before it, and a partial last window is dropped, as in `moesaic evaluate`. Arithmetic is float32.
"""

import contextlib
import hashlib
import json
import math
import os
import sys

try:
    import safetensors
    import torch
    import torch.nn.functional as F
    import transformers
except ModuleNotFoundError as missing:  # before any tool has read its arguments
    print(f"error: {missing.name}: got no such Python module, expected one that is installed", file=sys.stderr)
    sys.exit(2)


class InputError(Exception):
    """Bad input or usage: one line on standard error, exit status 2."""


def run_tool(main):
    """Calls main() and turns bad input into one line and exit status 2."""
    try:
        main()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def sha256_of(path):
    return hashlib.sha256(read_bytes(path)).hexdigest()


def as_tensor(data):
    """Bytes as a uint8 tensor."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def use_plain_settings():
    """No TF32 anywhere: float32 products are float32 products. Nor progress bars, which say nothing of so small a model."""
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def load_model(folder, device):
    """The checkpoint in `folder` in float32, ready to evaluate."""
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise InputError(f"{folder}: config.json: got no such file, expected a Hugging Face model folder")
    use_plain_settings()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    use_plain_experts(model)
    return model.to(device).eval()


def use_plain_experts(model):
    """The expert loop as the model's paper writes it, not a fused kernel that may round elsewhere."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")


def experts_of(model):
    """The experts module of each layer, in layer order."""
    found = [module for module in model.modules() if hasattr(module, "gate_up_proj") and hasattr(module, "down_proj")]
    if len(found) != model.config.num_hidden_layers:
        raise InputError(f"model: experts modules: got {len(found)}, expected {model.config.num_hidden_layers}")
    return found


def windows_of(data, window):
    """[n, window] int64; a partial last window is dropped."""
    count = len(data) // window
    if count == 0:
        raise InputError(f"tokens: length: got {len(data)} bytes, expected at least one window of {window}")
    return as_tensor(data[: count * window]).view(count, window).long()


@torch.no_grad()
def bits_per_byte(model, data, window=256, batch=64):
    """Loss of `model` on `data`; stderr is over windows' means."""
    device = next(model.parameters()).device
    means = []
    for chunk in windows_of(data, window).split(batch):
        chunk = chunk.to(device)
        logits = model(input_ids=chunk[:, :-1], use_cache=False).logits.float()
        loss = F.cross_entropy(logits.transpose(1, 2), chunk[:, 1:], reduction="none")
        means.append(loss.double().mean(dim=1).cpu() / math.log(2.0))
    means = torch.cat(means)
    spread = means.std().item() / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return {
        "bits_per_byte": means.mean().item(),
        "windows": len(means),
        "predicted": len(means) * (window - 1),
        "stderr": spread,
    }


@torch.no_grad()
def expert_load(model, data, window=256, batch=64):
    """Share of the tokens' choices that each expert of each layer gets: [layers][experts], rows sum to 1."""
    device = next(model.parameters()).device
    top_k, experts = model.config.num_experts_per_tok, model.config.num_local_experts
    counts = torch.zeros(model.config.num_hidden_layers, experts, dtype=torch.float64)
    for chunk in windows_of(data, window).split(batch):
        routers = model(input_ids=chunk.to(device), use_cache=False, output_router_logits=True).router_logits
        for layer, logits in enumerate(routers):
            chosen = logits.float().topk(top_k, dim=-1).indices.flatten().cpu()
            counts[layer] += torch.bincount(chosen, minlength=experts)
    return (counts / counts.sum(dim=1, keepdim=True)).tolist()


def round_to_bits(weight, bits, group=64):
    """Round to nearest, one scale and one zero point for each `group` consecutive inputs of an output."""
    out = weight.clone()
    for begin in range(0, weight.shape[-1], group):
        part = weight[..., begin : begin + group]
        low, high = part.amin(-1, keepdim=True).clamp(max=0), part.amax(-1, keepdim=True).clamp(min=0)
        scale = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
        zero = (-low / scale).round()
        out[..., begin : begin + group] = (((part / scale).round() + zero).clamp(0, 2**bits - 1) - zero) * scale
    return out


@contextlib.contextmanager
def rounded_experts(model, bits, chosen=None):
    """Inside the block the chosen (layer, expert) pairs, or all, have weights of `bits` bits."""
    saved = []
    with torch.no_grad():
        for layer, module in enumerate(experts_of(model)):
            saved.append((module, module.gate_up_proj.clone(), module.down_proj.clone()))
            for expert in range(model.config.num_local_experts):
                if chosen is None or (layer, expert) in chosen:
                    module.gate_up_proj[expert] = round_to_bits(module.gate_up_proj[expert], bits)
                    module.down_proj[expert] = round_to_bits(module.down_proj[expert], bits)
    try:
        yield
    finally:
        with torch.no_grad():
            for module, gate_up, down in saved:
                module.gate_up_proj.copy_(gate_up)
                module.down_proj.copy_(down)
