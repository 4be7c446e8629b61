#!/usr/bin/env python3
"""Records the routing of a transformers Mixture-of-Experts model as a routing trace.

    python3 tools/record_routing.py --model data/model --text moby_dick.txt --out data/traces/moby_dick.csv.gz

The model is any that `AutoModelForCausalLM` loads, whose router takes the top k of a softmax and which returns
`router_logits` (Mixtral, Qwen2/Qwen3-MoE, OLMoE, gpt-oss, ...). `--text` goes through the model's tokenizer, or is taken as
bytes where the folder has none and the vocabulary is 256; `--tokens` is raw bytes, one token a byte.

Requests begin at evenly spaced places of the text. Step 0 is the prefill; each later step feeds the text's next token
alone, with the key-value cache, as decoding does. A row of the trace, sorted by its first columns:
    request, step, phase (prefill or decode), position (index in the request, never the token), layer,
    experts (ids, largest weight first, joined by ';'), weights (the router's own, scaled to sum 1, 6 significant digits),
    arrival_us (request * --arrival-us)
`.jsonl` writes one object a row with the same keys and lists for experts and weights; `.gz` compresses, the same bytes
each time. Bad input: one line on standard error, exit status 2, no output file.
"""

import argparse
import gzip
import io
import json
import os
import sys

COLUMNS = ("request", "step", "phase", "position", "layer", "experts", "weights", "arrival_us")


class InputError(Exception):
    """Bad input or usage: one line on standard error, exit status 2."""


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description="Record the routing of a transformers MoE model as a routing trace.")
    parser.add_argument("--model", required=True, help="Hugging Face model folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="text file, through the model's tokenizer")
    source.add_argument("--tokens", help="raw bytes, one token a byte")
    parser.add_argument("--out", required=True, help="trace: .csv or .jsonl, optionally .gz")
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--prefill", type=int, default=48, help="tokens a request's prefill has")
    parser.add_argument("--decode", type=int, default=16, help="decode steps of a request")
    parser.add_argument("--arrival-us", type=int, default=0, help="microseconds between two requests' arrivals")
    parser.add_argument("--device", default="cpu", help="torch device, such as cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    arguments = parser.parse_args(argv)
    for name, least in (("requests", 1), ("prefill", 1), ("decode", 0), ("arrival_us", 0)):
        if getattr(arguments, name) < least:
            raise InputError(f"--{name.replace('_', '-')}: got {getattr(arguments, name)}, expected at least {least}")
    plain = arguments.out[:-3] if arguments.out.endswith(".gz") else arguments.out
    if not plain.endswith((".csv", ".jsonl")):
        raise InputError(f"--out: got {arguments.out}, expected a name that ends in .csv, .jsonl, .csv.gz or .jsonl.gz")
    return arguments


def format_rows(rows, as_jsonl):
    """The trace as text. A row is a tuple in the order of COLUMNS, experts and weights being lists."""
    lines = [] if as_jsonl else [",".join(COLUMNS)]
    for row in rows:
        weights = [f"{weight:.6g}" for weight in row[6]]
        if as_jsonl:
            values = dict(zip(COLUMNS, row), weights=[float(weight) for weight in weights])
            lines.append(json.dumps(values, separators=(",", ":")))
        else:
            experts = ";".join(str(expert) for expert in row[5])
            lines.append(",".join(str(field) for field in row[:5] + (experts, ";".join(weights), row[7])))
    return "\n".join(lines) + "\n"


def write_trace(path, rows):
    """Writes the whole file or none of it; the same rows give the same bytes."""
    plain = path[:-3] if path.endswith(".gz") else path
    data = format_rows(rows, plain.endswith(".jsonl")).encode("ascii")
    if path.endswith(".gz"):
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
            file.write(data)
        data = packed.getvalue()
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except OSError:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def load_model(arguments):
    import safetensors
    import torch
    import transformers

    config = os.path.join(arguments.model, "config.json")
    if not os.path.isfile(config):
        raise InputError(f"{config}: got no such file, expected a Hugging Face model folder")
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cuda.matmul.allow_tf32 = False
    dtype = getattr(torch, arguments.dtype)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"{arguments.model}: model: got '{error}', expected one that transformers loads") from error
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # runs on every device and in every dtype
    return model.to(arguments.device).eval()


def text_config(model):
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config


def choices_per_token(model, folder):
    """The router's k; refuses routers that do not take the top k of a softmax."""
    config = text_config(model)
    biased = any(name.endswith("e_score_correction_bias") for name in model.state_dict())
    sigmoid = getattr(config, "scoring_func", "softmax") != "softmax" or config.model_type.startswith(("llama4", "phimoe"))
    if biased or sigmoid or (getattr(config, "n_group", None) or 1) > 1:
        raise InputError(f"{folder}: router: got that of {config.model_type}, expected the top k of one softmax")
    for key in ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk"):
        if isinstance(getattr(config, key, None), int):
            return getattr(config, key)
    raise InputError(f"{folder}: num_experts_per_tok: got none in {config.model_type}, expected a Mixture-of-Experts model")


def expert_layers(model, folder):
    """Indices of the decoder layers that have experts, in order."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.model
    layers = [
        index
        for index, layer in enumerate(decoder.layers)
        if any(name.rsplit(".", 1)[-1] == "experts" for name, _ in layer.named_modules())
    ]
    if not layers:
        raise InputError(f"{folder}: layers: got none with experts, expected a Mixture-of-Experts model")
    return layers


def tokens_of(arguments, model):
    vocabulary = text_config(model).vocab_size
    path = arguments.tokens or arguments.text
    with open(path, "rb") as file:
        data = file.read()
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    if arguments.text and any(os.path.exists(os.path.join(arguments.model, name)) for name in names):
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
        tokens = tokenizer(data.decode("utf-8", errors="replace"), add_special_tokens=False)["input_ids"]
    elif arguments.text and vocabulary != 256:
        raise InputError(f"{arguments.model}: tokenizer: got none, expected one for a vocabulary of {vocabulary}")
    else:
        tokens = list(data)
    if tokens and max(tokens) >= vocabulary:
        raise InputError(f"{path}: token: got {max(tokens)}, expected less than the vocabulary of {vocabulary}")
    needed = arguments.prefill + arguments.decode
    if len(tokens) < needed * arguments.requests:
        raise InputError(f"{path}: length: got {len(tokens)} tokens, expected at least {needed * arguments.requests}")
    return tokens


def request_starts(length, requests, needed):
    """Evenly spaced, never overlapping: the middle of each of `requests` equal parts, or as near as fits."""
    part = length // requests
    return [index * part + (part - needed) // 2 for index in range(requests)]


def routing_of(router_logits, top_k, layers, folder):
    """[(layer, experts [positions][k], weights [positions][k])] of one forward pass over one sequence."""
    import torch

    recorded = [logits for logits in router_logits or () if logits is not None]
    if len(recorded) != len(layers):
        raise InputError(f"{folder}: router_logits: got {len(recorded)} layers, expected {len(layers)}")
    found = []
    for layer, logits in zip(layers, recorded):
        logits = logits.detach().float().reshape(-1, logits.shape[-1]).cpu()
        even = torch.ones(len(logits))
        # Some releases return the softmax instead of its input.
        is_probability = bool((logits >= 0).all()) and torch.allclose(logits.sum(dim=-1), even, atol=1e-3)
        probability = logits if is_probability else logits.softmax(dim=-1)
        best = probability.topk(top_k, dim=-1)
        weights = best.values / best.values.sum(dim=-1, keepdim=True)
        found.append((layer, best.indices.tolist(), weights.tolist()))
    return found


def record(model, tokens, arguments):
    """All rows of the trace, sorted by request, step, position and layer."""
    import torch

    top_k = choices_per_token(model, arguments.model)
    layers = expert_layers(model, arguments.model)
    rows = []
    with torch.no_grad():
        for request, start in enumerate(
            request_starts(len(tokens), arguments.requests, arguments.prefill + arguments.decode)
        ):
            position, cache = 0, None
            for step in range(arguments.decode + 1):
                count = arguments.prefill if step == 0 else 1
                fed = tokens[start + position : start + position + count]
                out = model(
                    input_ids=torch.tensor([fed], device=arguments.device),
                    past_key_values=cache,
                    use_cache=True,
                    output_router_logits=True,
                )
                cache = out.past_key_values
                routing = routing_of(getattr(out, "router_logits", None), top_k, layers, arguments.model)
                phase = "decode" if step else "prefill"
                for index in range(count):
                    for layer, experts, weights in routing:
                        rows.append(
                            (request, step, phase, position + index, layer)
                            + (experts[index], weights[index], request * arguments.arrival_us)
                        )
                position += count
    return rows


def main(argv=None):
    try:
        arguments = parse_arguments(argv)
        model = load_model(arguments)
        rows = record(model, tokens_of(arguments, model), arguments)
        write_trace(arguments.out, rows)
        print(f"{arguments.out}: {len(rows)} rows, {arguments.requests} requests")
    except (InputError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
