// Sums over one column of rows in shared memory, and the products of that column with a few targets, in float64: what a
// thread keeps of them, and the targets, which a warp converts once for all of its threads.
#pragma once

#include "cuda/gram/double_tiles.h"
#include "cuda/gram/row_findings.h"

namespace nrc_fast::cuda {

constexpr int most_targets = extra_columns - 1;
inline bool can_form_products(const MatrixView& targets) { return targets.columns <= most_targets; }
// Rows that a thread has numbers of before it uses one.
constexpr int looked_rows = 8;
constexpr int target_pitch = extra_columns;  // numbers from the targets of one row to those of the next, converted
constexpr int converted_targets = looked_rows * target_pitch;  // of a warp

// A target as it is stored.
NRC_FAST_DEVICE double target_value(DType dtype, const char* place) {
  const void* const value = place;
  switch (dtype) {
    case DType::float64:
      return *static_cast<const double*>(value);
    case DType::float32:
      return as_double(*static_cast<const float*>(value));
    case DType::float16:
      return as_double(*static_cast<const Float16*>(value));
    default:
      return as_double(*static_cast<const BFloat16*>(value));
  }
}

// Targets of eight rows, shifted, zeros where there are none and where a row is left out, by its bit: each lane
// converts two. `row_bytes` and `target_bytes` are from one row, or target, to the next. All lanes have read what was
// converted before.
NRC_FAST_DEVICE void convert_targets(const MatrixView& targets, const double* shift, const char* stored, int row_bytes,
                                     int target_bytes, int rows_left, double* converted, std::uint32_t left_out = 0) {
  const int lane = thread_index() % warp_lanes;
  const int target = lane % target_pitch;
  if (target < static_cast<int>(targets.columns)) {
    const double own_shift = shift == nullptr ? 0.0 : shift[target];
#pragma unroll
    for (int i = lane; i < converted_targets; i += warp_lanes) {
      const int row = i / target_pitch;
      const double value = target_value(targets.dtype, stored + row * row_bytes + target * target_bytes);
      converted[i] = row < rows_left && (left_out >> row & 1u) == 0 ? value - own_shift : 0.0;
    }
  }
  synchronize_warp();
}

struct ColumnProducts {
  double sum = 0.0;
  double products[most_targets];

  NRC_FAST_DEVICE ColumnProducts() {
#pragma unroll
    for (int t = 0; t < most_targets; ++t) products[t] = 0.0;
  }

  NRC_FAST_DEVICE void add(const double (&values)[looked_rows]) {
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) sum += values[r];
  }
  NRC_FAST_DEVICE void add_products(const double (&values)[looked_rows], int targets, const double* converted) {
#pragma unroll
    for (int t = 0; t < most_targets; ++t) {
      if (t >= targets) break;
#pragma unroll
      for (int r = 0; r < looked_rows; ++r) products[t] += values[r] * converted[r * target_pitch + t];
    }
  }
  NRC_FAST_DEVICE void write(int targets, double* place, int pitch) const {
    place[0] = sum;
#pragma unroll
    for (int t = 0; t < most_targets; ++t) {
      if (t < targets) place[(1 + t) * pitch] = products[t];
    }
  }
};

// The same where registers have no room: sums of products with a target are in shared memory, one of each thread side
// by side.
struct SharedColumnProducts {
  static constexpr int pitch = wide_columns;

  double sum = 0.0;
  double* products;

  NRC_FAST_DEVICE double& of_target(int target) const { return products[target * pitch + thread_index()]; }
  NRC_FAST_DEVICE void clear(int targets) {
    for (int t = 0; t < targets; ++t) of_target(t) = 0.0;
  }

  NRC_FAST_DEVICE void add(const double (&values)[looked_rows]) {
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) sum += values[r];
  }
  NRC_FAST_DEVICE void add_products(const double (&values)[looked_rows], int targets, const double* converted) {
#pragma unroll 1
    for (int t = 0; t < targets; ++t) {
      double product = of_target(t);
#pragma unroll
      for (int r = 0; r < looked_rows; ++r) product += values[r] * converted[r * target_pitch + t];
      of_target(t) = product;
    }
  }
  // Adds to what there is, and starts anew.
  NRC_FAST_DEVICE void fold(int targets, double* place) {
    place[0] += sum;
    sum = 0.0;
#pragma unroll 1
    for (int t = 0; t < targets; ++t) {
      place[(1 + t) * pitch] += of_target(t);
      of_target(t) = 0.0;
    }
  }
};

}  // namespace nrc_fast::cuda
