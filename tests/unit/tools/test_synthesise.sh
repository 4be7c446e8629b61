#!/usr/bin/env bash
# Whether Yosys reads the RTL; skipped where tools/synthesise.sh has installed nothing.
#   test_synthesise.sh REPOSITORY
set -euo pipefail
if [ ! -d "$1/build/synthesis/node_modules/@yowasp/yosys" ]; then
  echo "skipped: no Yosys in build/synthesis, which tools/synthesise.sh installs (needs node and npm)"
  exit 77
fi
exec "$1/tools/synthesise.sh" --read-only
