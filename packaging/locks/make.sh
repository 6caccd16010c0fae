#!/usr/bin/env bash
# Writes the locks that the workflows install from: versions of constraints.txt, with the hashes of their files for
# every system, for CPython 3.12 and later. Needs uv.
#
# Usage: bash packaging/locks/make.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
lock() {
  local name=$1
  shift
  uv pip compile --quiet --universal --generate-hashes --python-version 3.12 --constraint constraints.txt \
    --no-emit-package nrc-fast --custom-compile-command "bash packaging/locks/make.sh" \
    --output-file "packaging/locks/$name.txt" "packaging/locks/$name.in" "$@"
}
lock test pyproject.toml --extra demo --extra test
lock kernels
