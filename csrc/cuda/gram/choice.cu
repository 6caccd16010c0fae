// Which products a Gram matrix is formed of: by the rows, the precision that is asked for, and the card.
#include "cuda/gram/gram.h"
#include "cuda/gram/resident_product.h"
#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {
namespace {

bool is_16_bit(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

// float32 products of split numbers are slower there than float32 arithmetic itself.
bool has_half_rate_tensor_cores(Capability capability) {
  return (capability.major == 8 && capability.minor > 0) || capability.major == 12;
}

}  // namespace

GramChoice choose_gram(const MatrixView& rows, bool is_scaled, bool is_shifted, Precision precision,
                       Capability capability) {
  if (rows.dtype == DType::float64 || precision == Precision::highest) {
    return {capability.major >= 8 ? GramMethod::tensor_float64 : GramMethod::float64, false};
  }
  const bool is_as_stored = is_16_bit(rows.dtype) && !is_scaled && !is_shifted;
  const bool has_bfloat16 = capability.major >= 8;
  if (is_as_stored && (has_bfloat16 || rows.dtype == DType::float16)) {
    const bool is_float16 = rows.dtype == DType::float16;
    return {is_float16 ? GramMethod::tensor_float16 : GramMethod::tensor_bfloat16, !can_be_copied(rows), true};
  }
  if (!has_bfloat16) return {GramMethod::float32, false};
  if (precision == Precision::fast) return {GramMethod::tensor_bfloat16, true};
  if (has_half_rate_tensor_cores(capability)) return {GramMethod::float32, false};
  return {GramMethod::tensor_split, true};
}

// Rows stay in shared memory where they are then read less often.
ProductChoice choose_product(const MatrixView& rows, std::int64_t vectors, const DeviceLimits& device) {
  if (device.capability.major < 8) return {false, tile_vectors};
  const std::int64_t tiles = ceiling(vectors < 1 ? 1 : vectors, tile_vectors);
  const std::int64_t reads = 2 * ceiling(tiles, most_tiles);
  const std::int64_t resident = most_resident_tiles(rows, device);
  if (resident > 0 && ceiling(tiles, resident) < reads) return {true, resident * tile_vectors};
  return {false, most_tiles * tile_vectors};
}

}  // namespace nrc_fast::cuda
