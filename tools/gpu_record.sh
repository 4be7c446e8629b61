#!/usr/bin/env bash
# Tests the CUDA kernels on this machine's GPU, runs compute-sanitizer over a slice, measures, and writes the record.
#   tools/gpu_record.sh BUILD OUT_DIR [CASES] [SEED]
# BUILD is a build folder of the cuda preset; OUT_DIR gets record.json and the logs. docs/cuda.md tells more.
set -uo pipefail
[[ $# -ge 2 && $# -le 4 ]] || { echo "usage: tools/gpu_record.sh BUILD OUT_DIR [CASES] [SEED]" >&2; exit 2; }
build=$1
out=$2
cases=${3:-2000}
seed=${4:-1}
limit=${GPU_RECORD_LIMIT_S:-600}
record="$build/bin/moesaic_gpu_record"
mkdir -p "$out"
failed=0
logs=()

step() {  # step NAME COMMAND...: runs it under the limit, keeps its output, says how it ended
  local name=$1 begin=$SECONDS rc
  shift
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  rc=$?
  echo "$name: exit $rc after $((SECONDS - begin)) s"
  [ $rc -eq 0 ] || { failed=1; tail -n 12 "$out/$name.log"; }
  return $rc
}

for test in "$build"/tests/test_gpu_cuda_*; do step "$(basename "$test")" "$test"; done

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    step "$tool" compute-sanitizer --tool $tool --error-exitcode 9 \
      "$record" --no-benchmark --cases 40 --seed "$seed" --out "$out/$tool.json"
    logs+=(--sanitizer-log "$tool=$out/$tool.log")
  done
  # The benchmark's products move operands by the copy engine and wgmma: a tiny problem of every variant.
  step memcheck_benchmark compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$record" --cases 0 --rounds 1 --problem 256x384x512 --seed "$seed" --out "$out/memcheck_benchmark.json"
  logs+=(--sanitizer-log "memcheck_benchmark=$out/memcheck_benchmark.log")
else
  echo "compute-sanitizer: not found, not run"
fi

if ! step record "$record" --cases "$cases" --seed "$seed" --out "$out/record.json" "${logs[@]}"; then
  # A log without a summary line (a sanitizer that could not start) must not cost the comparison.
  step record_without_logs "$record" --cases "$cases" --seed "$seed" --out "$out/record.json"
fi
cat "$out"/record*.log
exit $failed
