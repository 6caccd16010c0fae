#!/usr/bin/env bash
# One call on a machine with a CUDA card: builds for that card, tests, checks memory accesses and races, benches.
# Needs nvcc, and a python3 with torch, pybind11, numpy, pytest, hypothesis, CMake and ninja; fetches nothing.
#
# bash bench/gpu.sh [folder for logs and results]        PYTHON=python3  ARCHS=90a  SECONDS_EACH=150
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-${OUT:-build/gpu}}" && cd "${1:-${OUT:-build/gpu}}" && pwd)
python=${PYTHON:-python3}
build=build/gpu_tree
limit=${SECONDS_EACH:-150}
failed=0

step() { # step NAME COMMAND...: the output in a file, its end on the screen
  local name=$1 start=$SECONDS
  shift
  timeout "$limit" "$@" > "$out/$name.log" 2>&1
  local status=$?
  printf '%-14s status %d, %d s: %s\n' "$name" "$status" $((SECONDS - start)) "$(tail -n 1 "$out/$name.log")"
  if [ "$status" -ne 0 ]; then failed=1; fi
}

capability=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
archs=${ARCHS:-$([ "$capability" = 90 ] && echo 90a || echo "$capability")}
step configure cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSKBUILD_PROJECT_VERSION=0.1.0 \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
  -DNRC_FAST_CUDA=ON -DNRC_FAST_CUDA_ARCHS="$archs" -DNRC_FAST_CUDA_EMULATION=ON
step build cmake --build "$build"
if [ "$failed" -ne 0 ]; then exit 1; fi
cp "$build"/*.so nrc_fast/kernels/
export PYTHONPATH=$PWD NRC_REQUIRE_GPU=1 CI=1
step environment "$python" -P -m nrc_fast env
pytest=("$python" -P -m pytest -p no:cacheprovider -q)
step tests "${pytest[@]}" tests/kernels/cuda/test_gram.py tests/kernels/cuda/test_residual.py \
  tests/kernels/cuda/test_products.py \
  tests/kernels/cuda/test_descent.py tests/torch_ops/test_operators.py tests/kernels/cuda/test_cards.py -k "not emulat"
few="card and (test_every_layout or test_collapsed or results_are_added or not_finite)"
step metrics "${pytest[@]}" tests/measurement/test_single_metrics.py tests/measurement/test_head.py \
  tests/measurement/test_feature_statistics.py tests/measurement/test_device_statistics.py \
  tests/torch_ops/test_device.py tests/training/test_watching_device.py -k card
step memcheck compute-sanitizer --tool memcheck --error-exitcode 9 "${pytest[@]}" tests/kernels/cuda/test_gram.py \
  tests/kernels/cuda/test_residual.py tests/kernels/cuda/test_products.py -k "$few"
step racecheck compute-sanitizer --tool racecheck --error-exitcode 9 "${pytest[@]}" tests/kernels/cuda/test_gram.py \
  tests/kernels/cuda/test_residual.py -k "card and (results_are_added or test_collapsed_rows_in_float32 or folded)"
step synccheck compute-sanitizer --tool synccheck --error-exitcode 9 "${pytest[@]}" tests/kernels/cuda/test_gram.py \
  tests/kernels/cuda/test_residual.py -k "card and (results_are_added or test_collapsed_rows_in_float32)"
for dtype in bfloat16 float32 float64; do
  for shape in 4000000x128 1000000x1024 250000x4096; do
    [ "$dtype" = float64 ] && shape=${shape/000x/00x}
    step "bench_${dtype}_$shape" "$python" bench/run.py --routine cuda_kernels --shape "$shape" --dtype "$dtype" \
      --out "$out/cuda_kernels_${shape}_$dtype.json"
    cat "$out/bench_${dtype}_$shape.log"
  done
done
exit "$failed"
