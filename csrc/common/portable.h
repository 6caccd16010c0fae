// Functions that the host and a CUDA device both run.
#pragma once

#ifdef __CUDACC__
#define NRC_FAST_BOTH __host__ __device__ constexpr
#else
#define NRC_FAST_BOTH constexpr
#endif
