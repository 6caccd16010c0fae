// The residual pass on a CUDA device, for one basis, in device memory, without waiting for the device.
#pragma once

#include "common/requests.h"
#include "cuda/machine/rows.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// The sums may be null too. No sum changes when a row is not finite; counts are added to. Rows that are not float64 are
// computed in float32 unless `double_precision`; of float64 rows, squares must stay in range. The workspace need not be
// cleared.
struct ResidualRequest : ResidualJob {
  MatrixView features;
  bool double_precision = false;
  RowCounts* counts = nullptr;
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t residual_workspace(const ResidualRequest& request, const DeviceLimits& device);
void residual(const ResidualRequest& request, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
