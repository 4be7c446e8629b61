#!/usr/bin/env bash
# Synthesises the RTL with Yosys and prints cells and estimated transistors per block (docs/area.md). Needs node and npm.
#   tools/synthesise.sh [--build NAME] [--json FILE] [--pe-only | --read-only]
# --build   one of rtl/builds.yaml (default r8c8p2a16)
# --json    also write the table to FILE
# --pe-only only the comparison of processing elements (seconds, not minutes)
# --read-only only reads the RTL: exits with 1 where Yosys cannot
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$root/build/synthesis
mkdir -p "$dir"
cp "$root/tools/synthesis/package.json" "$root/tools/synthesis/synthesise.mjs" "$dir/"
if [ ! -d "$dir/node_modules/@yowasp/yosys" ]; then
  npm install --prefix "$dir" --no-audit --no-fund --silent
fi
exec node "$dir/synthesise.mjs" "$root" "$@"
