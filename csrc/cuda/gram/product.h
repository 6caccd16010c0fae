// Rows times their products with a few vectors, V sum (h - s)(h - s)^T, in float64 and without the Gram matrix, in
// device memory, without waiting for the device.
#pragma once

#include "cuda/machine/runtime.h"
#include "cuda/residual/products.h"

namespace nrc_fast::cuda {

constexpr int tile_vectors = 8;
constexpr int most_tiles = 4;

// How rows are multiplied with a number of vectors on a card.
struct ProductChoice {
  bool is_resident;              // rows stay in shared memory for both products: one read for each group of vectors
  std::int64_t vectors_at_once;  // of a group
};
ProductChoice choose_product(const MatrixView& rows, std::int64_t vectors, const DeviceLimits& device);

std::int64_t gram_product_workspace(const ProductRequest& request, const DeviceLimits& device);
// No sum changes when a row is not finite; counts are added to.
void gram_product(const ProductRequest& request, const GramProduct& sums, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
