// The Gram kernel of bfloat16 rows for processors that multiply pairs of them in vectors: the tiles of the float32
// kernel.
#pragma once

#include "cpu/gram/pair_pack.h"
#include "cpu/gram/tile.h"

namespace nrc_fast::NRC_FAST_ISA {

template <>
struct Products<Pair> {
  using Sum = float;
  static NRC_FAST_INLINE Native<float> added(Native<float> sum, Pair left, Native<Pair> right) {
    return dot_pairs(sum, broadcast(left), right);
  }
};

void pair_tile(const PairTileArguments& task, RowsAhead& ahead) {
  gram_tile<Pair>(task.products, ahead);
  if (task.offsets != nullptr) move_tile(task);
}

const PairKernels& gram_pairs() {
  static constexpr PairKernels kernels = {least_columns, 2, 2, pack_pairs<1>, pair_tile};
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
