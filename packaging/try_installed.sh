#!/usr/bin/env bash
# Tries the package where it is installed: what it says of the machine, its self-test, and the tests of the kernels that
# need neither compilers nor libraries of others. cibuildwheel and packaging/wheels.sh run it for every wheel.
#
# Usage: bash packaging/try_installed.sh [PYTHON [OPTION OF PYTEST...]]      (PYTHON: a command, or a whole path)
set -euo pipefail
python=${1:-python}
[ $# -eq 0 ] || shift
root=$(cd "$(dirname "$0")/.." && pwd)
tests=()
for stem in gram gram_product residual predictions list_columns isa threads free_threads; do
  tests+=("$root/tests/kernels/test_$stem.py")
done
# Where no source tree lies that Python would take for the package.
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
cd "$empty"
"$python" -m nrc_fast env
"$python" -m nrc_fast selftest
"$python" -m pytest -q -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider -m "not long and not endurance" \
  "$@" "${tests[@]}"
