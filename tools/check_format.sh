#!/usr/bin/env bash
# Fails if a source file differs from what clang-format writes. usage: tools/check_format.sh [CLANG_FORMAT] [--fix]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
formatter=${1:-clang-format}
mode=(--dry-run -Werror)
[[ "${2:-}" == --fix ]] && mode=(-i)
find base reference workloads models mapping sim cli tests \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 -n 40 "$formatter" "${mode[@]}"
