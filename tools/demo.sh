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
  if [[ -t 1 ]]; then printf '\n\033[1m%d. %s\033[0m\n' "$step" "$1"; else printf '\n%d. %s\n' "$step" "$1"; fi
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

heading "Give every expert its bits: least loss in 2.5 bits a weight, proved; beside it a random plan of the same size"
for allocator in optimal random; do
  run map --workload configs/demo_workload.yaml --chip chips/demo.yaml --sensitivity "$out/sensitivity.csv" \
    --memory-budget 2.5bits --allocator "$allocator" --out "$out/$allocator.yaml"
  run evaluate --model data/model --tokens "$out/evaluation.bin" --plan "$out/$allocator.yaml"
done

heading "Run 16 tokens of real activations on a 16x16 shift-and-add chip, cycle by cycle"
simulate=(simulate --chip chips/demo.yaml --workload configs/demo_workload.yaml)
run "${simulate[@]}" --plan "$out/optimal.yaml" --engine cycle --out "$out/cycle"

heading "The same on the chip's SystemVerilog"
run "${simulate[@]}" --plan "$out/optimal.yaml" --engine rtl --out "$out/rtl" --json >"$out/printed.txt"
head -n 1 "$out/printed.txt"
for table in layers experts steps; do cmp "$out/cycle/$table.csv" "$out/rtl/$table.csv"; done
diff <(grep -v '"engine"' "$out/cycle/summary.json") <(grep -v '"engine"' "$out/rtl/summary.json")
echo "   every cycle, stall and byte is the same: all lines of summary.json but the engine's name, and all three tables"

heading "What the bits are worth"
for format in int4 int8; do "$moesaic" "${simulate[@]}" --plan "$format" --out "$out/$format" >"$out/printed.txt"; done
python3 - "$out" <<'PY'
import json
import sys

print(f"   {'plan':<10}{'bits':>6}{'cycles':>10}{'time':>12}{'bytes':>12}{'weights':>12}")
for plan, folder in (("optimal", "cycle"), ("int4", "int4"), ("int8", "int8")):
    with open(f"{sys.argv[1]}/{folder}/summary.json", encoding="utf-8") as file:
        run = json.load(file)
    print(f"   {plan:<10}{run['bits']['average']:>6.2f}{run['cycles']:>10,}{run['time_ms']:>9.3f} ms"
          f"{run['bytes']['total']:>12,}{run['bytes']['by_kind']['weights']:>12,}")
PY

heading "Check the arithmetic against a second implementation in Python, which shares no code: on the CPU and on the SystemVerilog"
for backend in cpu rtl; do
  printf '   $ tests/golden/numerics/independent.py moesaic --backend %s --cases 30\n' "$backend"
  python3 tests/golden/numerics/independent.py "$moesaic" --backend "$backend" --cases 30 | sed 's/^/   /'
done

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
