// A strided matrix in somebody else's memory, or one whose rows lie one after the other in a file: rows are samples.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "common/dtype.h"

namespace nrc_fast {

inline DType dtype_from_code(int code) {
  if (code < 0 || code >= dtype_count) {
    throw std::invalid_argument("dtype code " + std::to_string(code) + " is not one of 0..3");
  }
  return static_cast<DType>(code);
}

inline std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return 8;
    case DType::float32:
      return 4;
    default:
      return 2;
  }
}

struct Matrix {
  const char* data = nullptr;  // of a matrix in memory
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;     // in elements, may be negative or zero
  std::int64_t column_stride = 1;  // in elements
  DType dtype = DType::float64;
  int file = -1;            // descriptor of a matrix in a file
  std::int64_t offset = 0;  // of its first row, in bytes

  bool is_in_file() const { return file >= 0; }
  std::int64_t row_bytes() const { return columns * size_of(dtype); }
  const char* row(std::int64_t index) const { return data + index * row_stride * size_of(dtype); }
};

inline double float16_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const int fraction = bits & 0x3ff;
  double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  if (exponent == 31) value = fraction == 0 ? HUGE_VAL : std::nan("");
  return (bits & 0x8000) != 0 ? -value : value;
}

template <class T>
T read_as(const char* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

inline double bfloat16_value(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return static_cast<double>(value);
}

// One value, for the few that are needed one by one.
inline double element(const Matrix& matrix, std::int64_t row, std::int64_t column) {
  const char* const source = matrix.row(row) + column * matrix.column_stride * size_of(matrix.dtype);
  switch (matrix.dtype) {
    case DType::float64:
      return read_as<double>(source);
    case DType::float32:
      return static_cast<double>(read_as<float>(source));
    case DType::float16:
      return float16_value(read_as<std::uint16_t>(source));
    default:
      return bfloat16_value(read_as<std::uint16_t>(source));
  }
}

inline void merge(RowCounts& counts, const RowCounts& other) {
  counts.zero += other.zero;
  if (other.nonfinite > 0 && (counts.nonfinite == 0 || other.first_nonfinite < counts.first_nonfinite)) {
    counts.first_nonfinite = other.first_nonfinite;
  }
  counts.nonfinite += other.nonfinite;
  if (other.first_unread >= 0 && (counts.first_unread < 0 || other.first_unread < counts.first_unread)) {
    counts.first_unread = other.first_unread;
    counts.read_error = other.read_error;
  }
}

inline RowCounts nonfinite_row(std::int64_t index) {
  RowCounts counts;
  counts.nonfinite = 1;
  counts.first_nonfinite = index;
  return counts;
}

// Whether sums over the rows mean anything.
inline bool are_usable(const RowCounts& counts) { return counts.nonfinite == 0 && counts.first_unread < 0; }

}  // namespace nrc_fast
