// The Gram kernel of bfloat16 rows for processors that multiply pairs of them in vectors: the tiles of the float32
// kernel.
#pragma once

#include "cpu/gram/pair_pack.h"
#include "cpu/gram/tile.h"

namespace nrc_fast::NRC_FAST_ISA {

template <>
struct Products<Pair> {
  using Sum = float;
  static NRC_FAST_INLINE Native<float> added(Native<float> sum, const Pair& left, Native<Pair> right) {
    return add_products(sum, left, right);
  }
};

#if defined(NRC_FAST_NEON)
// Of 64 rows each. A quarter of a unit of float32 for each addition is the bound of the float32 kernel (equal addends),
// 64 units of a block. Here there are half as many additions with up to twice the rounding, and two units for the pair
// itself: 18 for a chain, twice that where the energy of y is twice that of x.
template <>
struct Chain<Pair> {
  static constexpr std::int64_t rows = 32;
};
#endif

void pair_tile(const PairTileArguments& task, RowsAhead& ahead) {
  gram_tile<Pair>(task.products, ahead);
  if (task.offsets != nullptr) move_tile(task);
}

const PairKernels& gram_pairs() {
  static constexpr PairKernels kernels = {least_columns, 2, 2, pack_pairs<1>, pair_tile};
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
