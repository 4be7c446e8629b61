"""Tests of tools/record_routing.py and of the traces that ship. Run: python3 -m unittest discover -s tests/unit/tools

Tests that run the model need torch and transformers 5 and say so when they skip.
"""

import contextlib
import csv
import gzip
import importlib.util
import io
import json
import os
import random
import sys
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
MODEL = os.path.join(ROOT, "data", "model")
TRACES = os.path.join(ROOT, "data", "traces")
KINDS = ("grimm_tales", "moby_dick", "shakespeare", "wikitext2_valid")
COLUMNS = ["request", "step", "phase", "position", "layer", "experts", "weights", "arrival_us"]

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tools"))
import record_routing  # noqa: E402

MISSING = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
NEEDS_TORCH = unittest.skipIf(MISSING, f"Python packages not installed here: {', '.join(MISSING)}")


def run_tool(*arguments):
    """(exit status, error lines) of the tool; what libraries print besides is not the tool's."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = record_routing.main([str(argument) for argument in arguments])
    return status, [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]


def read_csv(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames, list(reader)


class TraceFile(unittest.TestCase):
    ROWS = [
        (0, 0, "prefill", 0, 0, [3, 1], [0.71234567, 0.28765433], 0),
        (1, 2, "decode", 1, 0, [0, 7], [0.5, 0.5], 250),
    ]

    def test_a_csv_row_has_lists_joined_by_semicolons_and_weights_of_six_digits(self):
        lines = record_routing.format_rows(self.ROWS, as_jsonl=False).splitlines()
        self.assertEqual(lines[0], ",".join(COLUMNS))
        self.assertEqual(lines[1], "0,0,prefill,0,0,3;1,0.712346;0.287654,0")
        self.assertEqual(lines[2], "1,2,decode,1,0,0;7,0.5;0.5,250")

    def test_a_jsonl_row_has_the_keys_of_the_csv_in_order(self):
        lines = record_routing.format_rows(self.ROWS, as_jsonl=True).splitlines()
        row = json.loads(lines[0])
        self.assertEqual(list(row), COLUMNS)
        self.assertEqual(row["experts"], [3, 1])
        self.assertEqual(row["weights"], [0.712346, 0.287654])

    def test_a_compressed_trace_is_the_same_bytes_whatever_its_name(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = os.path.join(folder, "a.csv.gz"), os.path.join(folder, "b.csv.gz")
            record_routing.write_trace(first, self.ROWS)
            record_routing.write_trace(second, self.ROWS)
            with open(first, "rb") as one, open(second, "rb") as two:
                self.assertEqual(one.read(), two.read())
            with gzip.open(first, "rt") as file:
                self.assertEqual(file.read(), record_routing.format_rows(self.ROWS, as_jsonl=False))

    def test_a_folder_that_does_not_exist_leaves_no_output(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(OSError):
                record_routing.write_trace(os.path.join(folder, "none", "a.csv"), self.ROWS)
            self.assertEqual(os.listdir(folder), [])

    def test_requests_start_apart_and_end_inside_the_text(self):
        for length, requests, needed in ((1000, 4, 64), (256, 4, 64), (64, 1, 64), (1003, 7, 100)):
            starts = record_routing.request_starts(length, requests, needed)
            self.assertEqual(len(starts), requests)
            self.assertGreaterEqual(starts[0], 0)
            self.assertLessEqual(starts[-1] + needed, length)
            for left, right in zip(starts, starts[1:]):
                self.assertGreaterEqual(right - left, needed)

    def test_a_bad_option_is_one_line_and_exit_status_2(self):
        for arguments, expected in (
            (("--text", "t", "--out", "a.txt"), "--out: got a.txt, expected a name that ends in"),
            (("--text", "t", "--out", "a.csv", "--prefill", 0), "--prefill: got 0, expected at least 1"),
            (("--text", "t", "--out", "a.csv", "--decode", -1), "--decode: got -1, expected at least 0"),
        ):
            status, errors = run_tool("--model", "m", *arguments)
            self.assertEqual(status, 2)
            self.assertEqual(len(errors), 1)
            self.assertIn(expected, errors[0])


class ShippedTraces(unittest.TestCase):
    def test_each_kind_of_text_ships_real_routing_of_every_position_and_layer(self):
        with open(os.path.join(MODEL, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        for kind in KINDS:
            with self.subTest(kind):
                path = os.path.join(TRACES, f"{kind}.csv.gz")
                self.assertLess(os.path.getsize(path), 150_000)
                columns, rows = read_csv(path)
                self.assertEqual(columns, COLUMNS)
                requests = 1 + max(int(row["request"]) for row in rows)
                layers = config["num_hidden_layers"]
                self.assertEqual(len(rows), requests * 64 * layers)
                for index, row in enumerate(rows):
                    request, rest = divmod(index, 64 * layers)
                    position, layer = divmod(rest, layers)
                    self.assertEqual(int(row["request"]), request)
                    self.assertEqual(int(row["position"]), position)
                    self.assertEqual(int(row["layer"]), layer)
                    self.assertEqual(row["phase"], "prefill" if position < 48 else "decode")
                    self.assertEqual(int(row["step"]), max(0, position - 47))
                    experts = [int(field) for field in row["experts"].split(";")]
                    weights = [float(field) for field in row["weights"].split(";")]
                    self.assertEqual(len(set(experts)), config["num_experts_per_tok"])
                    self.assertTrue(all(0 <= expert < config["num_local_experts"] for expert in experts))
                    self.assertAlmostEqual(sum(weights), 1.0, places=5)
                    self.assertEqual(weights, sorted(weights, reverse=True))

    def test_the_kinds_of_text_route_differently(self):
        seen = set()
        for kind in KINDS:
            _, rows = read_csv(os.path.join(TRACES, f"{kind}.csv.gz"))
            seen.add(tuple(row["experts"] for row in rows))
        self.assertEqual(len(seen), len(KINDS))


@NEEDS_TORCH
class Recording(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import torch
        import transformers

        cls.folder = tempfile.TemporaryDirectory()
        cls.text = os.path.join(cls.folder.name, "text.txt")
        rng = random.Random(5)
        cls.data = bytes(rng.choice(b"etaoin shrdlu,.\n") for _ in range(600))
        with open(cls.text, "wb") as file:
            file.write(cls.data)
        cls.torch = torch
        cls.model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        cls.layers = cls.model.config.num_hidden_layers

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def record(self, name, *options):
        path = os.path.join(self.folder.name, name)
        status, errors = run_tool("--model", MODEL, "--text", self.text, "--out", path, *options)
        self.assertEqual((status, errors), (0, []))
        return path

    def whole_forward(self, tokens):
        """Router logits [layer][position][expert] of one forward pass without a cache, from the inputs of the gates."""
        inputs = []
        hooks = [
            layer.mlp.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0][0].clone()))
            for layer in self.model.model.layers
        ]
        with self.torch.no_grad():
            self.model(input_ids=self.torch.tensor([list(tokens)]), use_cache=False)
        for hook in hooks:
            hook.remove()
        gates = [layer.mlp.gate.weight for layer in self.model.model.layers]
        return [(states @ gate.T).detach() for states, gate in zip(inputs, gates)]

    def test_recorded_experts_and_weights_are_those_of_a_forward_pass_without_a_cache(self):
        _, rows = read_csv(self.record("whole.csv", "--requests", 2, "--prefill", 20, "--decode", 6))
        self.assertEqual(len(rows), 2 * 26 * self.layers)
        starts = record_routing.request_starts(len(self.data), 2, 26)
        near_ties = 0
        for request, start in enumerate(starts):
            logits = self.whole_forward(self.data[start : start + 26])
            for row in (row for row in rows if int(row["request"]) == request):
                probability = logits[int(row["layer"])][int(row["position"])].softmax(dim=-1)
                order = probability.sort(descending=True)
                best = order.values[:2] / order.values[:2].sum()
                if min(order.values[0] - order.values[1], order.values[1] - order.values[2]) < 1e-4:
                    near_ties += 1
                    continue
                self.assertEqual(row["experts"], ";".join(str(int(expert)) for expert in order.indices[:2]))
                for field, weight in zip(row["weights"].split(";"), best):
                    self.assertAlmostEqual(float(field), weight.item(), delta=2e-5)
        self.assertLess(near_ties, 10)

    def test_phases_steps_and_positions_follow_prefill_then_one_token_a_step(self):
        _, rows = read_csv(self.record("phases.csv", "--requests", 3, "--prefill", 5, "--decode", 2, "--arrival-us", 70))
        got = [tuple(row[key] for key in ("request", "step", "phase", "position", "layer", "arrival_us")) for row in rows]
        expected = []
        for request in range(3):
            for position in range(7):
                step = max(0, position - 4)
                phase = "decode" if step else "prefill"
                for layer in range(self.layers):
                    expected.append(tuple(map(str, (request, step, phase, position, layer, request * 70))))
        self.assertEqual(got, expected)

    def test_recording_twice_gives_the_same_bytes(self):
        options = ("--requests", 1, "--prefill", 8, "--decode", 2)
        with open(self.record("a.csv.gz", *options), "rb") as one, open(self.record("b.csv.gz", *options), "rb") as two:
            self.assertEqual(one.read(), two.read())

    def test_jsonl_says_what_the_csv_says(self):
        options = ("--requests", 1, "--prefill", 8, "--decode", 1)
        _, rows = read_csv(self.record("same.csv", *options))
        with open(self.record("same.jsonl", *options), encoding="ascii") as file:
            objects = [json.loads(line) for line in file]
        self.assertEqual(len(objects), len(rows))
        for row, value in zip(rows, objects):
            self.assertEqual(row["experts"], ";".join(map(str, value["experts"])))
            self.assertEqual([float(field) for field in row["weights"].split(";")], value["weights"])
            self.assertEqual(row["phase"], value["phase"])

    def test_raw_tokens_and_text_of_the_same_bytes_give_the_same_trace(self):
        options = ("--requests", 1, "--prefill", 8, "--decode", 1)
        path = os.path.join(self.folder.name, "tokens.csv")
        self.assertEqual(run_tool("--model", MODEL, "--tokens", self.text, "--out", path, *options), (0, []))
        self.assertEqual(read_csv(path), read_csv(self.record("text.csv", *options)))

    def test_another_architecture_that_skips_experts_in_some_layers_is_recorded_by_layer(self):
        import transformers

        self.torch.manual_seed(3)
        config = transformers.Qwen3MoeConfig(
            vocab_size=256, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=3,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_experts=6, num_experts_per_tok=3,
            mlp_only_layers=[1], norm_topk_prob=False, pad_token_id=None, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        folder = os.path.join(self.folder.name, "qwen3_moe")
        transformers.Qwen3MoeForCausalLM(config).save_pretrained(folder)
        path = os.path.join(self.folder.name, "qwen3_moe.csv")
        options = ("--requests", 1, "--prefill", 4, "--decode", 2)
        self.assertEqual(run_tool("--model", folder, "--text", self.text, "--out", path, *options), (0, []))
        _, rows = read_csv(path)
        self.assertEqual([int(row["layer"]) for row in rows], [0, 2] * 6)
        for row in rows:
            self.assertEqual(len(set(row["experts"].split(";"))), 3)
            self.assertAlmostEqual(sum(float(field) for field in row["weights"].split(";")), 1.0, places=5)

    def test_bad_input_is_one_line_exit_status_2_and_no_output(self):
        import transformers

        dense = os.path.join(self.folder.name, "dense")
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=256, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                pad_token_id=None, bos_token_id=None, eos_token_id=None,
            )  # fmt: skip
        ).save_pretrained(dense)
        truncated = os.path.join(self.folder.name, "truncated")
        os.mkdir(truncated)
        for name in ("config.json", "model.safetensors"):
            with open(os.path.join(MODEL, name), "rb") as source, open(os.path.join(truncated, name), "wb") as file:
                file.write(source.read(100_000))
        path = os.path.join(self.folder.name, "refused.csv")
        for model, text, options, expected in (
            (MODEL, self.text, ("--prefill", 9999), "expected at least"),
            (MODEL, self.text + ".none", (), "No such file"),
            (self.folder.name, self.text, (), "expected a Hugging Face model folder"),
            (dense, self.text, (), "expected a Mixture-of-Experts model"),
            (truncated, self.text, (), "expected one that transformers loads"),
        ):
            with self.subTest(expected):
                status, errors = run_tool("--model", model, "--text", text, "--out", path, *options)
                self.assertEqual(status, 2)
                self.assertEqual(len(errors), 1)
                self.assertIn(expected, errors[0])
                self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
