// Element types that the kernels read, and what they find in rows. Included by the per-ISA translation units, so it
// has no inline functions and nothing of the standard library.
#pragma once

#include <cstdint>

namespace nrc_fast {

enum class DType : int { float64 = 0, float32 = 1, float16 = 2, bfloat16 = 3 };

constexpr int dtype_count = 4;

// 16-bit rows are carried as bits; the types only keep the two formats apart.
struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

// What the rows of one pass were like. `first_nonfinite` is the smallest index, -1 when all rows are finite.
struct RowCounts {
  std::int64_t zero = 0;
  std::int64_t nonfinite = 0;
  std::int64_t first_nonfinite = -1;
};

}  // namespace nrc_fast
