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
