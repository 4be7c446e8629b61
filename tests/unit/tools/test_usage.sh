#!/usr/bin/env bash
# A tool that is called without what it needs says so, without a traceback, and ends with 2. usage: test_usage.sh REPOSITORY
set -uo pipefail
cd "$1/tools"
for tool in run_tests.sh gpu_record.sh generate_builds.py train_model.py sample_tokens.py record_reference.py; do
  runner=bash
  [[ $tool == *.py ]] && runner=python3
  output=$("$runner" "$tool" 2>&1 </dev/null)
  status=$?
  if [[ $status -ne 2 || "$output" == *Traceback* || ! "$output" =~ usage:|expected ]]; then
    echo "$tool: exit status $status, expected 2 and a usage: $output" >&2
    exit 1
  fi
done
python3 generate_builds.py --help >/dev/null || { echo "generate_builds.py --help: $?" >&2; exit 1; }

refused() {  # EXPECTED TOOL ARGUMENTS...
  local expected=$1 output status
  shift
  output=$(python3 "$@" 2>&1 </dev/null)
  status=$?
  if [[ $status -ne 2 || "$output" != "$expected" ]]; then
    echo "$*: exit status $status, expected 2 and '$expected': $output" >&2
    exit 1
  fi
}
for tool in check_accuracy.py compare_allocators.py; do
  refused "$tool: --program: got 'nofile', expected moesaic's program" $tool --program nofile
  refused "$tool: --program: got '.', expected moesaic's program" $tool --program .
  refused "$tool: --bits: got 'two', expected bits a weight, above 0" $tool --program /bin/true --bits two
done
refused "check_accuracy.py: --gptq-windows: got 0, expected a number from 2 to 512" check_accuracy.py --program /bin/true --gptq-windows 0
refused "check_accuracy.py: --plans: got -1, expected a number of at least 0" check_accuracy.py --program /bin/true --plans -1
refused "compare_allocators.py: --windows: got 0, expected a number from 2 to 512" compare_allocators.py --program /bin/true --windows 0
refused "compare_allocators.py: --jobs: got 0, expected a number of at least 1" compare_allocators.py --program /bin/true --jobs 0
refused "compare_allocators.py: --out: got 'nowhere/t.csv', expected a file that can be written" \
  compare_allocators.py --program /bin/true --out nowhere/t.csv
