"""Tests of tools/trace_of_reference.py. Run: python3 -m unittest discover -s tests/unit/tools"""

import os
import sys
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tools"))
import trace_of_reference  # noqa: E402


class TraceOfReference(unittest.TestCase):
    def test_the_shipped_trace_of_evaluation_is_what_the_reference_says_byte_for_byte(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "evaluation.csv.gz")
            sys.argv = ["trace_of_reference.py", "--reference", os.path.join(ROOT, "data/reference/logits.safetensors"),
                        "--prefill", "32", "--out", out]
            trace_of_reference.main()
            with open(out, "rb") as made, open(os.path.join(ROOT, "data/traces/evaluation.csv.gz"), "rb") as shipped:
                self.assertEqual(made.read(), shipped.read())

    def test_a_tie_goes_to_the_lower_expert_and_weights_sum_to_one(self):
        best, weights = trace_of_reference.choose([0.0, 2.0, 2.0, 1.0], 3)
        self.assertEqual(best, [1, 2, 3])
        self.assertAlmostEqual(sum(weights), 1.0)
        self.assertEqual(weights[0], weights[1])

    def test_positions_after_the_prefill_are_decode_steps_of_their_own(self):
        rows = list(trace_of_reference.rows([1, 1, 3, 2], [0.0, 1.0] * 3, prefill=2, top_k=1))
        self.assertEqual([row.split(",")[1:4] for row in rows],
                         [["0", "prefill", "0"], ["0", "prefill", "1"], ["1", "decode", "2"]])


if __name__ == "__main__":
    unittest.main()
