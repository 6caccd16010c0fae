// The errors of a linear model of the rows on a CUDA device, in device memory, without waiting for the device.
#pragma once

#include "common/requests.h"
#include "cuda/machine/rows.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// No sum changes when a row is not finite; counts are added to. The workspace need not be cleared.
struct ProductRequest : ProductFields<MatrixView> {
  std::int64_t rows_at_once = 0;  // whose coefficients are in memory; 0: as many as fill it well, or none
  RowCounts* counts = nullptr;
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t prediction_error_workspace(const ProductRequest& request, const DeviceLimits& device);
void prediction_error(const ProductRequest& request, const PredictionError& sums, const DeviceLimits& device,
                      Stream stream);

}  // namespace nrc_fast::cuda
