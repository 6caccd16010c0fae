#!/usr/bin/env bash
# Lays nvcc 13.0 and the static CUDA runtime, as their packages on the index bring them, into one folder.
# Usage: bash packaging/cuda_compiler.sh FOLDER
set -euo pipefail
folder=$1
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
python3 -m pip install --quiet --target "$unpacked" \
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
mkdir -p "$folder"
cp -r "$unpacked"/nvidia/cu13/. "$folder"
# Where nvcc and CMake look.
ln -sfn lib "$folder/lib64"
ln -sf libcudart.so.13 "$folder/lib/libcudart.so"
chmod +x "$folder"/bin/* "$folder"/nvvm/bin/*
"$folder"/bin/nvcc --version
