// A matrix in memory, or one whose rows lie one after the other in a file.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/matrix.h"

namespace nrc_fast {

struct Matrix : MatrixView {
  int file = -1;            // descriptor of a matrix in a file
  std::int64_t offset = 0;  // of its first row, in bytes

  bool is_in_file() const { return file >= 0; }
  std::int64_t row_bytes() const { return columns * size_of(dtype); }
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
inline double element(const MatrixView& matrix, std::int64_t row, std::int64_t column) {
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

}  // namespace nrc_fast
