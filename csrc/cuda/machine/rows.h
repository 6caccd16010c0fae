// Rows in device memory as the kernels read them, one value at a time.
#pragma once

#include "common/arithmetic.h"
#include "common/matrix.h"
#include "cuda/machine/device.h"

namespace nrc_fast::cuda {

NRC_FAST_DEVICE double as_double(double value) { return value; }
NRC_FAST_DEVICE double as_double(float value) { return static_cast<double>(value); }
NRC_FAST_DEVICE double as_double(Float16 value) { return static_cast<double>(float16_to_float(value.bits)); }
NRC_FAST_DEVICE float as_float(float value) { return value; }
NRC_FAST_DEVICE float as_float(double value) { return static_cast<float>(value); }
NRC_FAST_DEVICE float as_float(Float16 value) { return float16_to_float(value.bits); }

union FloatBits {
  std::uint32_t bits;
  float value;
};

NRC_FAST_DEVICE float as_float(BFloat16 value) {
  FloatBits result;
  result.bits = static_cast<std::uint32_t>(value.bits) << 16;
  return result.value;
}
NRC_FAST_DEVICE double as_double(BFloat16 value) { return static_cast<double>(as_float(value)); }

template <class Value, class Row>
NRC_FAST_DEVICE Value as(Row row) {
  if constexpr (sizeof(Value) == 8) {
    return as_double(row);
  } else {
    return as_float(row);
  }
}

template <class Row>
NRC_FAST_DEVICE Row stored_value(const MatrixView& rows, std::int64_t row, std::int64_t column) {
  note_load(sizeof(Row));
  return static_cast<const Row*>(rows.data)[row * rows.row_stride + column * rows.column_stride];
}

// Nearest bfloat16, ties to even; NaN stays NaN.
NRC_FAST_DEVICE std::uint16_t nearest_bfloat16(float value) {
  FloatBits parts;
  parts.value = value;
  if ((parts.bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(parts.bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((parts.bits + 0x7fffu + (parts.bits >> 16 & 1u)) >> 16);
}

// The shift of one column; null, and columns beyond the last: zero.
template <class Value>
NRC_FAST_DEVICE HighAndLow<Value> column_shift(const double* shift, std::int64_t column, std::int64_t columns) {
  if (shift == nullptr || column >= columns) return {0, 0};
  return high_and_low<Value>(shift[column]);
}

NRC_FAST_DEVICE bool is_finite(double value) { return value - value == 0.0; }

// Calls `use(Row{})` with the type of the rows' elements.
template <class Use>
void with_row_type(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::float64:
      return use(double{});
    case DType::float32:
      return use(float{});
    case DType::float16:
      return use(Float16{});
    default:
      return use(BFloat16{});
  }
}

// What many passes into the same sums have found, each pass one batch; lies in device memory and starts as zeros.
struct DeviceTotals {
  std::int64_t rows;      // that were added
  std::int64_t zero;      // of these
  std::int64_t skipped;   // left out because they are not finite
  std::int64_t batches;   // that were given
  std::int64_t added;     // of these
  std::int64_t blocks;    // of block_rows of what was added, each batch on its own
  std::int64_t exponent;  // of the largest |h - shift| that was added, biased by 1023; 0 where all are 0
  std::int64_t target_exponent;
  std::int64_t refused;  // batches that were not added, and of the first of them:
  std::int64_t refused_batch;
  std::int64_t refused_rows;
  std::int64_t refused_nonfinite;  // 0: its squares leave the range of float64
  std::int64_t refused_first;      // row that is not finite
  std::int64_t refused_by_targets;
};

// Rows of the blocks that totals count: as many as float32 sums grow over at most before they are folded.
constexpr std::int64_t total_block_rows = 512;

NRC_FAST_DEVICE bool are_usable(const RowCounts* counts) { return counts == nullptr || counts->nonfinite == 0; }

inline MatrixView part_of(const MatrixView& rows, std::int64_t first, std::int64_t count) {
  MatrixView part = rows;
  part.data = rows.row(first);
  part.rows = count;
  return part;
}

}  // namespace nrc_fast::cuda
