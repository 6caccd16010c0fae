#!/usr/bin/env bash
# One call of at most LIMIT seconds on a machine with a CUDA card, the most valuable first: every part under a limit of
# its own that leaves those behind it theirs, every result and every line written as it comes. Needs a python3 with
# torch; what else is missing, a line says. Fetches nothing, and leaves the card's settings alone.
#
# bash bench/gpu.sh [--dry-run] [folder for results]        PYTHON=python3  ARCHS=90a  LIMIT=390
#
# --dry-run takes the emulated device in place of the card, few rows, and no tool for there.
# Status 1: something that must pass has not passed.
set -uo pipefail

# ---- the parts, in their order ----
# name       seconds  kept  must pass  beside: with the part before, at the same time
PARTS="
driver       10       8     no
build        170      167   yes
ceilings     60       0     no         beside
probes       40       25    yes
smoke        40       35    yes
kernels      100      70    no
ncu_gram     20       15    no
ncu_split    20       15    no
ncu_residual 20       15    no
tests        100      40    yes
memcheck     60       0     yes        beside
racecheck    60       0     yes        beside
rest         60       0     no
"
# Kept: seconds that no part before takes. What is timed or profiled has the card to itself.

# At most eight files come back: these, and where the call is lost what the parts that ran then had said, PART.part.
FILES="summary.txt log.txt ceilings.jsonl smoke.jsonl cuda_kernels.json"

part_driver() {
  tool nvidia-smi && nvidia-smi --format=csv \
    --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu
  tool nvcc && nvcc --version | tail -n 2
  tool cmake && cmake --version | head -n 1
  tool ncu
  tool compute-sanitizer
  "$python" --version
  echo "$(nproc) processors, $(uname -m)"
}

part_build() {
  if [ -n "$dry" ]; then
    beside_checkout 'import nrc_fast.kernels._cuda_emulation as core; print(core.build_config()["compiler"])'
    return
  fi
  if ! tool nvcc; then
    beside_checkout 'from nrc_fast.kernels.cuda.cards import cuda_summary as s; print(s()); assert s() != "not built"'
    return
  fi
  local archs=${ARCHS:-} build=build/gpu_tree
  if [ -z "$archs" ]; then
    archs=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())') || return
    [ "$archs" = 90 ] && archs=90a
  fi
  cmake -S . -B "$build" $(command -v ninja > /dev/null && echo -G Ninja) -DCMAKE_BUILD_TYPE=Release \
    -DSKBUILD_PROJECT_VERSION=0.1.0 -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DNRC_FAST_CUDA=ON -DNRC_FAST_CUDA_ARCHS="$archs" \
    -DNRC_FAST_CUDA_EMULATION=OFF -DCMAKE_CUDA_FLAGS=-lineinfo && # so that the tools name lines
    cmake --build "$build" --parallel "$(nproc)" && cp "$build"/*.so nrc_fast/kernels/ &&
    beside_checkout 'from nrc_fast.kernels.cuda.cards import cuda_summary as summary; print(summary())'
}

part_ceilings() {
  "$python" bench/card_ceilings.py --device "$device" --out "$out/ceilings.jsonl"
}

part_probes() { # of Hopper's own instructions, and the kernel that is off until they have passed
  "$python" bench/card_probes.py --device "$device" ${dry:+--widths 40 --rows 70}
}

part_smoke() {
  "$python" bench/card_smoke.py --device "$device" ${dry:+--widths 40 --rows 70} --out "$out/smoke.jsonl"
}

part_kernels() {
  "$python" bench/run.py --routine cuda_kernels --device "$device" --seconds 0.5 \
    ${dry:+--shape 70x24 --dtype bfloat16 float32 --runs 1} --out "$out/cuda_kernels.json"
}

part_tests() {
  local chosen="tests/kernels/cuda tests/kernels/test_backend.py tests/measurement tests/torch_ops"
  chosen+=" tests/training/test_watching_device.py"
  local processes=()
  "$python" -c 'import xdist' 2> /dev/null && processes=(--numprocesses 6 --dist worksteal)
  if [ -n "$dry" ]; then
    chosen="tests/kernels/cuda/test_cards.py -k names_the_card"
    processes=()
  else
    chosen+=" -k card"
    export NRC_REQUIRE_GPU=1 CI=1
  fi
  # shellcheck disable=SC2086 # words
  module pytest -p no:cacheprovider -q -m "not long and not endurance" "${processes[@]}" $chosen
}

# The first launch of: a kernel by its name, and what the smoke test is to launch.
part_ncu_gram() {
  profile "^gram_tensor_" --kernels "gram high" --dtypes bfloat16 --widths 1024 --rows 262144
}

part_ncu_split() {
  profile "^gram_row_tiles_" --kernels "gram high" --dtypes float32 --widths 512 --rows 262144
}

part_ncu_residual() {
  profile "^residual_tensor_" --kernels residual --dtypes float32 --widths 256 --rows 1000000
}

profile() { # profile KERNEL OPTIONS...
  local kernel=$1 sections="SpeedOfLight MemoryWorkloadAnalysis ComputeWorkloadAnalysis Occupancy LaunchStats"
  shift
  tool ncu || return 0
  # shellcheck disable=SC2046 # words
  ncu --clock-control none $(printf -- '--section %s ' $sections WarpStateStats) --kernel-name-base function \
    --kernel-name "regex:$kernel" --launch-count 1 "$python" bench/card_smoke.py "$@"
}

part_memcheck() {
  sanitize memcheck --widths 100 136 130 40 --rows 600
}

part_racecheck() {
  local status
  sanitize racecheck --widths 136 --rows 600 --dtypes float32 bfloat16
  status=$?
  sanitize racecheck --widths 100 --rows 600 --dtypes float64 --kernels "gram highest" statistics && return "$status"
}

sanitize() { # sanitize TOOL OPTIONS...: of the smoke test
  local name=$1
  shift
  tool compute-sanitizer || return 0
  # Of our kernels alone, or those of torch take all the time. Every allocation by itself, so that what lies beyond one
  # is nobody's. Whatever process the smoke test goes on in.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$name" --error-exitcode 9 --kernel-regex kns=nrc_fast \
    --target-processes all --report-api-errors no "$python" bench/card_smoke.py "$@"
}

part_rest() {
  module nrc_fast env
  if [ -z "$dry" ]; then
    module nrc_fast selftest
    sanitize synccheck --widths 136 --rows 600 --dtypes float32 bfloat16
  fi
}

# ---- how they run ----

tool() { # whether a program is there; a line where it is not
  if [ -z "$dry" ] && command -v "$1" > /dev/null; then return 0; fi
  echo "$1 is not there"
  return 1
}

# Python without this folder, in which it would look first: option -P does it, but from 3.11 on.
beside_checkout() { # beside_checkout CODE ARGUMENTS...
  "$python" -c 'import sys; sys.path[:] = [place for place in sys.path if place]; exec(sys.argv.pop(1))' "$@"
}

module() { # module NAME ARGUMENTS...: as python -m
  local name=$1
  shift
  beside_checkout "import runpy; runpy.run_module('$name', run_name='__main__', alter_sys=True)" "$@"
}

now() { date +%s; }

run_part() { # run_part NAME SECONDS KEPT BEHIND MUST: its output into the log, its line into the summary, at once
  local name=$1 limit=$2 kept=$3 behind=$4 must=$5 start left most status last said="$out/$1.part"
  start=$(now)
  left=$((deadline - start))
  # Without what is kept for those behind, or else what is kept for it: of too little time the first have theirs.
  most=$((left - behind > kept ? left - behind : kept))
  [ -n "$dry" ] && limit=$((limit * 10)) # on a machine that has other work
  limit=$((most < limit ? most : limit))
  limit=$((left < limit ? left : limit))
  if [ "$limit" -lt 5 ]; then
    status="not run: no time is left"
  elif [ -e "$work/no_kernels" ]; then
    status="not run: there are no kernels"
  else
    timeout --kill-after=5 "$limit" bash "$script" --part "$name" "$out" < /dev/null > "$said" 2>&1
    status="status $?"
    [ "$status" != "status 0" ] && [ $(($(now) - start)) -ge "$limit" ] && status+=" (its $limit s are over)"
  fi
  if [ "$must" = yes ] && [ "$status" != "status 0" ]; then
    touch "$work/failed"
    [ "$name" = build ] && touch "$work/no_kernels"
  fi
  last=$(grep -v '^[[:space:]]*$' "$said" 2> /dev/null | tail -n 1 | cut -c 1-200)
  { echo "==== $name: $status"; sed "s/^/$name: /" "$said" 2> /dev/null; } >> "$out/log.txt"
  rm -f "$said"
  echo "$name: $status, $(($(now) - start)) s: $last" | tee -a "$out/summary.txt"
}

script=$(cd "$(dirname "$0")" && pwd)/gpu.sh
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
export PATH=$PATH:/usr/local/cuda/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
dry=${GPU_DRY_RUN:-}
if [ "${1:-}" = --dry-run ]; then
  dry=yes
  shift
fi
export GPU_DRY_RUN=$dry
device=$([ -n "$dry" ] && echo emulated || echo cuda)
# What was built here; a dry run takes what is installed.
[ -n "$dry" ] || export PYTHONPATH=$PWD
if [ "${1:-}" = --part ]; then
  out=$3
  "part_$2"
  exit
fi

out=$(mkdir -p "${1:-${OUT:-build/gpu}}" && cd "${1:-${OUT:-build/gpu}}" && pwd) || exit 1
(cd "$out" && rm -f $FILES ./*.part)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
deadline=$(($(now) + ${LIMIT:-$([ -n "$dry" ] && echo 3900 || echo 390)}))
behind=$(awk '{ sum += $3 } END { print sum }' <<< "$PARTS")
while read -r name seconds kept must beside; do
  [ -n "$name" ] || continue
  # A part that none is beside of is over before the next begins.
  [ -n "$beside" ] || wait
  behind=$((behind - kept))
  run_part "$name" "$seconds" "$kept" "$behind" "$must" &
done <<< "$PARTS"
wait
rm -f "$out"/*.part # of what was ended in the midst of writing
"$python" bench/card_summary.py "$out" | tee -a "$out/summary.txt"
[ ! -e "$work/failed" ]
