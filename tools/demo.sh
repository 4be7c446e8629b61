#!/usr/bin/env bash
# The whole loop once, on the model that ships. usage: tools/demo.sh PROGRAM
# Everything it makes lies in build/demo afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -eq 1 ]] || { echo "usage: tools/demo.sh PROGRAM" >&2; exit 2; }
moesaic=$(realpath "$1")
out=build/demo
mkdir -p "$out"

step=0
heading() {
  step=$((step + 1))
  printf '\n\033[1m%d. %s\033[0m\n' "$step" "$1"
}
# Shows a command as one would type it, then runs it.
run() {
  printf '   $ moesaic %s\n' "$*"
  "$moesaic" "$@" | sed 's/^/   /'
}

heading "A trained Mixture-of-Experts model: 4 layers of 8 experts, 2 a token, one byte a token"
run workload describe data/model

heading "What it loses in float and with every expert in int8 (64 windows of 256 bytes)"
head -c 16384 data/tokens/evaluation.bin >"$out/evaluation.bin"
run evaluate --model data/model --tokens "$out/evaluation.bin" --plan none
run evaluate --model data/model --tokens "$out/evaluation.bin" --plan int8

heading "Measure what each expert loses in 2, 3 and 4 bits (other bytes than those above)"
head -c 8192 data/tokens/calibration.bin >"$out/calibration.bin"
run calibrate --model data/model --tokens "$out/calibration.bin" --formats int2,int3,int4 --out "$out/sensitivity.csv"

heading "Give every expert its bits: least loss in 2.5 bits a weight, proved"
run map --workload configs/demo_workload.yaml --chip chips/demo.yaml --sensitivity "$out/sensitivity.csv" \
  --memory-budget 2.5bits --out "$out/plan.yaml"
run evaluate --model data/model --tokens "$out/evaluation.bin" --plan "$out/plan.yaml"

heading "Run 16 tokens of real activations on a 16x16 shift-and-add chip, cycle by cycle"
run simulate --chip chips/demo.yaml --workload configs/demo_workload.yaml --plan "$out/plan.yaml" --engine cycle \
  --out "$out/cycle"

heading "The same on the chip's SystemVerilog"
run simulate --chip chips/demo.yaml --workload configs/demo_workload.yaml --plan "$out/plan.yaml" --engine rtl \
  --out "$out/rtl" --json >/dev/null
for table in layers experts steps; do cmp "$out/cycle/$table.csv" "$out/rtl/$table.csv"; done
diff <(grep -v '"engine"' "$out/cycle/summary.json") <(grep -v '"engine"' "$out/rtl/summary.json")
echo "   cycles, stalls and bytes of both engines are the same, in all $(wc -l <"$out/rtl/summary.json") lines of summary.json"

heading "Check twin and SystemVerilog in lock step: 50 random cases, random stalls, every port, every clock"
run verify --cases 50 --seed 1 --against rtl

heading "And show that this check can fail: one flipped bit in the SystemVerilog's outputs"
printf '   $ moesaic verify --cases 1 --seed 1 --against rtl --inject rtl:40\n'
if "$moesaic" verify --cases 1 --seed 1 --against rtl --inject rtl:40 >"$out/inject.txt" 2>&1; then
  echo "   the flipped bit was not found" >&2
  exit 1
fi
sed 's/^/   /' "$out/inject.txt"

printf '\nAll of it is in %s. Next: docs/simulate.md, docs/architecture.md.\n' "$out"
