// Steps of gradient descent on a CUDA device, in device memory, without waiting for the device.
#pragma once

#include "common/requests.h"
#include "cuda/machine/device.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// The workspace need not be cleared.
struct DescentRequest : DescentBatch {
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t descent_workspace(const DescentBatch& batch, const DeviceLimits& device);
void descent(const DescentRequest& request, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
