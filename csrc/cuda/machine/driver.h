// Functions of the CUDA driver by name, found at run time: the driver is not linked, so that the module loads where
// there is none. Types are as cuda.h has them, which not every toolkit installs.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "cuda/machine/status.h"

namespace nrc_fast::cuda {

using DriverStatus = int;  // 0 is success

// `version`: of CUDA, the one that brought the function.
template <class Function>
Function driver_function(const char* name, int version) {
  void* found = nullptr;
#if CUDART_VERSION >= 12050
  cudaDriverEntryPointQueryResult result;
  check(cudaGetDriverEntryPointByVersion(name, &found, static_cast<unsigned>(version), cudaEnableDefault, &result),
        name);
#else
  static_cast<void>(version);
  check(cudaGetDriverEntryPoint(name, &found, cudaEnableDefault), name);
#endif
  if (found == nullptr) throw std::runtime_error(std::string("the CUDA driver has no ") + name);
  return reinterpret_cast<Function>(found);
}

inline void check_driver(DriverStatus status, const char* what) {
  if (status == 0) return;
  throw std::runtime_error(std::string(what) + ": the CUDA driver says error " + std::to_string(status));
}

}  // namespace nrc_fast::cuda
