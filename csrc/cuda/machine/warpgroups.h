// What kernels of Hopper cards use beside device.h: copies of boxes by the copy engine, barriers in shared memory that
// count arrivals and bytes, and products of warpgroups.
#pragma once

#include "cuda/machine/device.h"
#include "cuda/machine/matrix_descriptor.h"
#include "cuda/machine/tensor_map.h"

#if defined(__CUDACC__)
#include "cuda/machine/warpgroup_instructions.h"
#elif defined(NRC_FAST_CUDA_EMULATION)
#include "cuda/emulation/warpgroup_instructions.h"
#endif

namespace nrc_fast::cuda {

// The first place from an address of shared memory on where a box may begin.
NRC_FAST_DEVICE char* aligned_boxes(char* shared) {
  return shared + (swizzle_bytes - shared_address(shared) % swizzle_bytes) % swizzle_bytes;
}

}  // namespace nrc_fast::cuda
