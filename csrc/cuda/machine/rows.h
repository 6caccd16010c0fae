// Rows in device memory as the kernels read them, one value at a time.
#pragma once

#include "common/dtype.h"
#include "cuda/machine/device.h"

namespace nrc_fast::cuda {

struct DeviceRows {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;  // both in elements; negative or zero is legal
  std::int64_t column_stride = 1;
  DType dtype = DType::float64;
};

template <DType>
struct RowType;
template <>
struct RowType<DType::float64> {
  using type = double;
};
template <>
struct RowType<DType::float32> {
  using type = float;
};
template <>
struct RowType<DType::float16> {
  using type = Float16;
};
template <>
struct RowType<DType::bfloat16> {
  using type = BFloat16;
};

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
NRC_FAST_DEVICE Row stored_value(const DeviceRows& rows, std::int64_t row, std::int64_t column) {
  return static_cast<const Row*>(rows.data)[row * rows.row_stride + column * rows.column_stride];
}

// Nearest bfloat16, ties to even; NaN stays NaN.
NRC_FAST_DEVICE std::uint16_t nearest_bfloat16(float value) {
  FloatBits parts;
  parts.value = value;
  if ((parts.bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(parts.bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((parts.bits + 0x7fffu + (parts.bits >> 16 & 1u)) >> 16);
}

// The shift of one column as a sum of two numbers of the type that is computed with.
template <class Value>
struct ColumnShift {
  Value high;
  Value low;

  NRC_FAST_DEVICE ColumnShift(const double* shift, std::int64_t column, std::int64_t columns) : high(0), low(0) {
    if (shift == nullptr || column >= columns) return;
    high = static_cast<Value>(shift[column]);
    if constexpr (sizeof(Value) == 4) low = static_cast<Value>(shift[column] - static_cast<double>(high));
  }
};

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

// What a pass has found in its rows; lies in device memory and is added to. `first_nonfinite` starts as -1.
struct DeviceCounts {
  std::int64_t zero;
  std::int64_t nonfinite;
  std::int64_t first_nonfinite;
};

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

NRC_FAST_DEVICE bool are_usable(const DeviceCounts* counts) { return counts == nullptr || counts->nonfinite == 0; }

inline std::int64_t ceiling(std::int64_t value, std::int64_t step) { return (value + step - 1) / step; }

inline DeviceRows part_of(const DeviceRows& rows, std::int64_t first, std::int64_t count) {
  DeviceRows part = rows;
  const std::int64_t size = rows.dtype == DType::float64 ? 8 : (rows.dtype == DType::float32 ? 4 : 2);
  part.data = static_cast<const char*>(rows.data) + first * rows.row_stride * size;
  part.rows = count;
  return part;
}

}  // namespace nrc_fast::cuda
