// Errors of the CUDA runtime as exceptions.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace nrc_fast::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or whoever asks next would find it
  throw std::runtime_error(std::string(what) + ": CUDA says " + cudaGetErrorName(status) + ", " +
                           cudaGetErrorString(status));
}

}  // namespace nrc_fast::cuda
