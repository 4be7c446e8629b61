#!/usr/bin/env bash
# Runs the tests of one preset. usage: tools/run_tests.sh PRESET
# The last line is "N passed, N failed, N skipped"; the exit code is 1 when one failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -eq 1 ]] || { echo "usage: tools/run_tests.sh PRESET" >&2; exit 2; }
preset=$1
report=build/$preset/ctest.xml

ctest --preset "$preset" -j "$(nproc)" --output-junit "$PWD/$report"
status=$?
python3 - "$report" <<'PY' || exit 1
import sys
import xml.etree.ElementTree as xml

suite = xml.parse(sys.argv[1]).getroot()
total, failed, skipped = (int(suite.get(name)) for name in ("tests", "failures", "skipped"))
if total == 0:
    sys.exit("no test was run")
print(f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped")
PY
exit "$status"
