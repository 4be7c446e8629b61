"""The array and what follows it elaborate without a warning for the parameters that they allow, and refuse the others.

Refusal means a non-zero exit status and the module's own words: Verilator treats $fatal as a warning class when it is told to.
"""
import pathlib
import subprocess
import sys
import unittest

RTL = pathlib.Path(__file__).resolve().parents[3] / "rtl"
VERILATOR = sys.argv.pop(1) if len(sys.argv) > 1 and "verilator" in sys.argv[1] else "verilator"


def lint(module, parameters):
    command = [VERILATOR, "--lint-only", "-Wall", "--assert", str(RTL / "lint.vlt")]
    for folder in ("common", "array", "dequant"):
        command += ["-y", str(RTL / folder)]
    command += [str(RTL / "pkg" / "moe_pkg.sv"), str(RTL / "pkg" / "moe_commands_pkg.sv")]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    return subprocess.run(command + ["--top-module", module, f"{module}.sv"], text=True, capture_output=True, check=False)


class Elaboration(unittest.TestCase):
    def accepts(self, module, **parameters):
        with self.subTest(module=module, parameters=parameters):
            run = lint(module, parameters)
            self.assertEqual((run.returncode, run.stderr), (0, ""))

    def refuses(self, reason, module, **parameters):
        with self.subTest(module=module, parameters=parameters):
            run = lint(module, parameters)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn(f"{module}: {reason}", run.stderr)

    def test_the_array_elaborates_for_the_shapes_it_allows(self):
        for rows, cols, planes, act_bits, axi in ((4, 4, 1, 4, 64), (4, 64, 2, 8, 512), (64, 4, 4, 16, 64), (32, 32, 2, 8, 128)):
            self.accepts("moe_pe_array", Rows=rows, Cols=cols, PlanesPerCycle=planes, MaxActBits=act_bits, AxiDataWidth=axi)

    def test_digits_with_a_shift_of_their_own_elaborate(self):
        for planes in (1, 2, 4):
            self.accepts("moe_pe_array", Rows=8, Cols=8, PlanesPerCycle=planes, MaxActBits=8, AxiDataWidth=64, DigitKind=1)

    def test_what_follows_the_array_elaborates(self):
        for tokens in (1, 2, 128):
            self.accepts("moe_group_dequant", Rows=4, Cols=64, MaxActBits=16, MaxTokens=tokens)
            self.accepts("moe_acc_buffer", Cols=4, MaxTokens=tokens)
        self.accepts("moe_requant", MetaBits=1)
        self.accepts("moe_swiglu", MetaBits=100)

    def test_the_multiplier_for_comparison_elaborates(self):
        self.accepts("moe_pe_multiplier", MaxActBits=16)

    def test_the_array_refuses_other_shapes(self):
        self.refuses("Rows must be a power of two in 4..64", "moe_pe_array", Rows=6)
        self.refuses("Rows must be a power of two in 4..64", "moe_pe_array", Rows=128, AxiDataWidth=256)
        self.refuses("Cols must be a power of two in 4..64", "moe_pe_array", Cols=2)
        self.refuses("AxiDataWidth must be 64, 128, 256 or 512, and at least Rows", "moe_pe_array", AxiDataWidth=32)
        self.refuses("PlanesPerCycle must be 1, 2 or 4", "moe_pe", PlanesPerCycle=3)
        self.refuses("MaxActBits must be 4, 8 or 16", "moe_pe", MaxActBits=12)
        self.refuses("DigitKind must be CommonShift (0) or PerWeight (1)", "moe_pe", DigitKind=2)
        self.refuses("Rows must be a power of two in 4..64", "moe_pe_column", Rows=2)

    def test_what_follows_the_array_refuses_other_shapes(self):
        self.refuses("MaxTokens must be a power of two in 1..128", "moe_group_dequant", MaxTokens=256)
        self.refuses("Cols must be a power of two in 4..64", "moe_group_dequant", Cols=12)
        self.refuses("MaxTokens must be a power of two in 1..128", "moe_acc_buffer", MaxTokens=3)
        self.refuses("MetaBits must be at least 1", "moe_requant", MetaBits=0)
        self.refuses("MetaBits must be at least 1", "moe_swiglu", MetaBits=0)
        self.refuses("Depth must be a power of two", "moe_regfile", Depth=3)
        self.refuses("Inputs must be a power of two, at least 2", "moe_adder_tree", Inputs=6)
        self.refuses("MaxActBits must be 4, 8 or 16", "moe_pe_multiplier", MaxActBits=5)


if __name__ == "__main__":
    unittest.main()
