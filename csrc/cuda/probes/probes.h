// Kernels that each try one of the instructions of Hopper cards on which the Gram kernel of warpgroups rests: what they
// give is known exactly, and a card that gives something else must not run that kernel.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "cuda/machine/device.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// One product of a warpgroup: of 16 rows of 128 bfloat16 or float16 numbers, the sums over rows of the products of the
// first 64 columns with the first `columns`, 64 or 128; `sums`, 64 x columns, by rows.
struct ProductProbe {
  const std::uint16_t* rows;
  float* sums;
};
void probe_product(const ProductProbe& probe, DType dtype, int columns, Stream stream);

// One copy of a box of 64 columns and `box_rows` rows, as it then lies in shared memory.
constexpr int box_rows = 64;
struct BoxProbe {
  const std::uint16_t* data;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t row_stride;
  int column;  // of the box's corner
  int row;
  std::uint16_t* box;
};
void probe_box(const BoxProbe& probe, Stream stream);

// A ring of boxes that one thread fills and two warpgroups empty: sums of the 64 columns of all rows, whole numbers.
struct RingProbe {
  const std::uint16_t* data;
  std::int64_t rows;
  std::int64_t row_stride;
  std::int64_t* sums;  // for each thread of the warpgroups
};
constexpr int ring_sums = 256;
void probe_ring(const RingProbe& probe, Stream stream);

}  // namespace nrc_fast::cuda
