#!/usr/bin/env bash
# Installs what is missing, builds, and runs.
#   ./bootstrap.sh build         the program, at build/release/bin/moesaic
#   ./bootstrap.sh demo          build, then the whole loop on the model that ships
#   ./bootstrap.sh test          build everything, then the checks and tests; the last line counts them
#   ./bootstrap.sh test asan     the same tests under AddressSanitizer and UndefinedBehaviorSanitizer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  sed -n '3,6s/^# *//p' "$0" >&2
  exit 2
}

install_packages() {
  local wanted missing=()
  mapfile -t wanted < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' packages.txt)
  local package
  for package in "${wanted[@]}"; do
    [[ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" == "install ok installed" ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || { echo "bootstrap.sh: run as root or install sudo; missing: ${missing[*]}" >&2; exit 2; }
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build PRESET [TARGET ...]
build() {
  local preset=$1
  shift
  cmake --preset "$preset" >build-configure.log 2>&1 || { cat build-configure.log >&2; rm -f build-configure.log; exit 3; }
  rm -f build-configure.log
  cmake --build --preset "$preset" ${1:+--target "$@"}
}

[[ $# -ge 1 ]] || usage
case "$1" in
  build)
    [[ $# -eq 1 ]] || usage
    install_packages
    build release moesaic
    ;;
  demo)
    [[ $# -eq 1 ]] || usage
    install_packages
    build release moesaic
    tools/demo.sh build/release/bin/moesaic
    ;;
  test)
    preset=release
    [[ $# -eq 2 && "$2" == asan ]] && preset=asan
    [[ $# -eq 1 || "$preset" == asan ]] || usage
    install_packages
    build "$preset"
    tools/run_tests.sh "$preset"
    ;;
  *) usage ;;
esac
