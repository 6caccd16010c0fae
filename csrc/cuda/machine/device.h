// The machine that the kernels are written for: a CUDA device or, in the tests, its emulation on the host. Kernels use
// nothing of CUDA but what this header names.
#pragma once

#if defined(__CUDACC__)
#include "cuda/machine/instructions.h"
#elif defined(NRC_FAST_CUDA_EMULATION)
#include "cuda/emulation/instructions.h"
#else
// Callers of the launches, which run no kernel themselves.
#include <cuda_runtime_api.h>

#include <cstdint>

#define NRC_FAST_DEVICE inline

namespace nrc_fast::cuda {

using Stream = cudaStream_t;
float float16_to_float(std::uint16_t bits);
void note_load(int bytes);

}  // namespace nrc_fast::cuda
#endif
