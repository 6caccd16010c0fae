// Steps of gradient descent of csrc/cpu/descent/descent.h on a CUDA device, in device memory, without waiting for the
// device.
#pragma once

#include "cuda/machine/device.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

constexpr int descent_rate_count = 7;  // learning rates of W, T and b, penalties of W, H and b, momentum

// The arrays of DescentBatch, all of them in device memory. Velocities may be null where no momentum is set. The
// workspace need not be cleared.
struct DescentRequest {
  bool double_precision = true;
  std::int64_t problems = 0;
  std::int64_t d = 0;
  std::int64_t n = 0;
  std::int64_t stride = 0;
  void* transforms = nullptr;  // [problem][d][stride]
  void* weights = nullptr;     // [problem][d][n]
  void* biases = nullptr;      // [problem][n]
  void* transform_velocities = nullptr;
  void* weight_velocities = nullptr;
  void* bias_velocities = nullptr;
  const void* moments = nullptr;  // [moment][d + n + 1][stride]
  const std::int64_t* moment_index = nullptr;
  const double* rates = nullptr;        // [problem][descent_rate_count]
  const std::int64_t* steps = nullptr;  // of each problem; 0 leaves it as it is
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t descent_workspace(const DescentRequest& request, const DeviceLimits& device);
void descent(const DescentRequest& request, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
