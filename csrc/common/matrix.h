// A strided matrix in somebody else's memory, of the host or of a device: rows are samples.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace nrc_fast {

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

struct MatrixView {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;  // both in elements; negative or zero is legal
  std::int64_t column_stride = 1;
  DType dtype = DType::float64;

  const char* row(std::int64_t index) const {
    return static_cast<const char*>(data) + index * row_stride * size_of(dtype);
  }
};

}  // namespace nrc_fast
