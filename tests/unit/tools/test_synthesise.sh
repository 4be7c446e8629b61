#!/usr/bin/env bash
# Whether Yosys reads the RTL, and what is refused before it works; skipped where tools/synthesise.sh has installed nothing.
#   test_synthesise.sh REPOSITORY
set -euo pipefail
if [ ! -d "$1/build/synthesis/node_modules/@yowasp/yosys" ]; then
  echo "skipped: no Yosys in build/synthesis, which tools/synthesise.sh installs (needs node and npm)"
  exit 77
fi
refused() {  # WHAT ARGUMENTS...
  local what=$1 output status=0
  shift
  output=$("$root/tools/synthesise.sh" "$@" 2>&1) || status=$?
  if [[ $status -ne 2 || "$output" != "$what"* || "$output" == *$'\n'* ]]; then
    echo "synthesise.sh $*: exit status $status, expected 2 and one line that begins with '$what': $output" >&2
    exit 1
  fi
}
root=$1
refused "--json: got 'nowhere/x.json' (ENOENT), expected a file that can be written" --pe-only --json nowhere/x.json
refused "--json: got '/tmp' (a folder)" --pe-only --json /tmp
refused "--read-only: got it with --pe-only" --read-only --pe-only
refused "--json: got it with --read-only" --read-only --json x.json
exec "$root/tools/synthesise.sh" --read-only
