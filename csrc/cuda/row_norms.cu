// Norms of rows, and which rows are zero or not finite: one warp for each row.
#include "cuda/prepare.h"

namespace nrc_fast::cuda {
namespace {

constexpr int norm_threads = 256;
constexpr int rows_at_once = norm_threads / warp_lanes;

struct RowNormArguments {
  DeviceRows features;
  DeviceRows targets;
  const double* shift;
  std::int64_t first_row;  // number of the first of these rows among all
  double* inverse_norms;
  DeviceCounts* counts;
};

NRC_FAST_DEVICE double warp_sum(double value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

NRC_FAST_DEVICE double warp_maximum(double value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) {
    const double other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

union DoubleBits {
  std::uint64_t bits;
  double value;
};

// A power of two that brings the largest of some numbers close to 1, so that their squares neither over- nor underflow.
NRC_FAST_DEVICE double normal_scale(double largest) {
  DoubleBits bits;
  bits.value = largest;
  int exponent = static_cast<int>(bits.bits >> 52 & 0x7ff) - 1023;
  exponent = exponent < -1000 ? -1000 : (exponent > 1000 ? 1000 : exponent);
  bits.bits = static_cast<std::uint64_t>(1023 - exponent) << 52;
  return bits.value;
}

NRC_FAST_DEVICE double magnitude(double value) { return value < 0.0 ? -value : value; }

template <class Row>
NRC_FAST_DEVICE double shifted_value(const RowNormArguments& arguments, std::int64_t row, std::int64_t column) {
  const double value = as_double(stored_value<Row>(arguments.features, row, column));
  return arguments.shift == nullptr ? value : value - arguments.shift[column];
}

template <class Row, class Target>
NRC_FAST_GLOBAL(norm_threads, 2)
row_norms_kernel(RowNormArguments arguments) {
  const int lane = thread_index() % warp_lanes;
  const std::int64_t step = grid_size() * rows_at_once;
  for (std::int64_t row = block_index() * rows_at_once + thread_index() / warp_lanes; row < arguments.features.rows;
       row += step) {
    double scale = 1.0;
    if constexpr (sizeof(Row) == 8) {
      // Squares of narrower rows stay in the range of float64.
      double largest = 0.0;
      for (std::int64_t c = lane; c < arguments.features.columns; c += warp_lanes) {
        const double value = magnitude(shifted_value<Row>(arguments, row, c));
        largest = value > largest ? value : largest;
      }
      scale = normal_scale(warp_maximum(largest));
    }
    double energy = 0.0;
    double bad = 0.0;     // not 0 where a value is not finite
    double filled = 0.0;  // not 0 where a value is not 0
    for (std::int64_t c = lane; c < arguments.features.columns; c += warp_lanes) {
      const double stored = as_double(stored_value<Row>(arguments.features, row, c));
      if (!is_finite(stored)) bad = 1.0;
      if (stored != 0.0) filled = 1.0;
      const double value = shifted_value<Row>(arguments, row, c) * scale;
      energy += value * value;
    }
    for (std::int64_t c = lane; c < arguments.targets.columns; c += warp_lanes) {
      if (!is_finite(as_double(stored_value<Target>(arguments.targets, row, c)))) bad = 1.0;
    }
    energy = warp_sum(energy);
    bad = warp_maximum(bad);
    filled = warp_maximum(filled);
    if (lane != 0) continue;
    if (arguments.inverse_norms != nullptr) arguments.inverse_norms[row] = energy > 0.0 ? scale / sqrt(energy) : 0.0;
    if (filled == 0.0) count_more(&arguments.counts->zero, 1);
    if (bad == 0.0) continue;
    count_more(&arguments.counts->nonfinite, 1);
    keep_smallest(&arguments.counts->first_nonfinite, arguments.first_row + row);
  }
}

}  // namespace

void row_norms(const DeviceRows& features, const double* shift, const DeviceRows& targets, std::int64_t first_row,
               double* inverse_norms, DeviceCounts* counts, Stream stream) {
  if (features.rows == 0) return;
  const RowNormArguments arguments{features, targets, shift, first_row, inverse_norms, counts};
  const std::int64_t wanted = ceiling(features.rows, rows_at_once);
  const auto blocks = static_cast<unsigned>(wanted < 65536 ? wanted : 65536);
  with_row_type(features.dtype, [&](auto row) {
    with_row_type(targets.dtype, [&](auto target) {
      launch(row_norms_kernel<decltype(row), decltype(target)>, "row_norms", {blocks}, norm_threads, 0, stream,
             arguments);
    });
  });
}

}  // namespace nrc_fast::cuda
