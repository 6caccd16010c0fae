// Rows times their products with a few vectors, V sum (h - s)(h - s)^T, in float64 and without the Gram matrix, in
// device memory, without waiting for the device.
#pragma once

#include "cuda/machine/runtime.h"
#include "cuda/residual/products.h"

namespace nrc_fast::cuda {

std::int64_t gram_product_workspace(const ProductRequest& request, const DeviceLimits& device);
// No sum changes when a row is not finite; counts are added to.
void gram_product(const ProductRequest& request, const GramProduct& sums, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
