// The residual pass on a CUDA device: the sums of csrc/cpu/residual/residual.h for one basis, in device memory, without
// waiting for the device.
#pragma once

#include "cuda/machine/rows.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// Pointers are to device memory; row_residuals and row_energies may be null, and shift, which then is zero. No sum
// changes when a row is not finite. Rows that are not float64 are computed in float32 unless `double_precision`; of
// float64 rows, squares must stay in range. The workspace need not be cleared.
struct ResidualRequest {
  MatrixView features;
  const double* basis = nullptr;
  std::int64_t vectors = 0;
  const double* shift = nullptr;
  double* raw_sums = nullptr;
  double* unit_sums = nullptr;
  double* row_residuals = nullptr;
  double* row_energies = nullptr;
  bool double_precision = false;
  RowCounts* counts = nullptr;
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t residual_workspace(const ResidualRequest& request, const DeviceLimits& device);
void residual(const ResidualRequest& request, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
