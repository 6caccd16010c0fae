// Eight numbers of a row as 16-bit words for the tensor cores: three bfloat16 numbers for each whose sum it is to 24
// bits, or the first of them alone.
#pragma once

#include "cuda/machine/fragments.h"
#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

struct alignas(16) ChunkWords {
  std::uint32_t words[chunk_columns / 2];
};

template <int parts>
NRC_FAST_DEVICE void split(const double (&values)[chunk_columns], ChunkWords (&chunks)[parts]) {
#pragma unroll
  for (int w = 0; w < chunk_columns / 2; ++w) {
    auto low = static_cast<float>(values[2 * w]);
    auto high = static_cast<float>(values[2 * w + 1]);
#pragma unroll
    for (int part = 0; part < parts; ++part) {
      const std::uint32_t word = packed_bfloat16(low, high);
      chunks[part].words[w] = word;
      FloatBits rounded;
      rounded.bits = word << 16;
      low -= rounded.value;
      rounded.bits = word & 0xffff0000u;
      high -= rounded.value;
    }
  }
}

}  // namespace nrc_fast::cuda
