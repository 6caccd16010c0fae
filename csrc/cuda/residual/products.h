// The passes of csrc/cpu/residual/residual.h that hold rows against a few vectors in float64, on a CUDA device and in
// device memory, without waiting for the device.
#pragma once

#include "cuda/machine/rows.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// What both passes have in common. No sum changes when a row is not finite; the workspace need not be cleared.
struct ProductRequest {
  MatrixView features;
  const double* vectors = nullptr;  // count x columns
  std::int64_t count = 0;
  std::int64_t rows_at_once = 0;  // whose coefficients are in memory; 0: as many as fill it well
  RowCounts* counts = nullptr;
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t product_workspace(const ProductRequest& request, const DeviceLimits& device);

// image (count x d) += sum over rows of (V x) x^T with x = h - shift, and column_sums (d) += sum of x.
void gram_product(const ProductRequest& request, const double* shift, double* image, double* column_sums,
                  const DeviceLimits& device, Stream stream);

// errors (count) += sum over rows of (W h + b - y)^2, W the vectors.
void prediction_error(const ProductRequest& request, const double* bias, const MatrixView& targets, double* errors,
                      const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
