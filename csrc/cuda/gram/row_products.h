// Products of stages whose planes a block writes itself, and their sums. One half of its warps multiplies a stage
// before it converts the next, the other half after it. Where warps are dealt out to the schedulers in turn, as cards
// do, each has one of both, so that one keeps the tensor cores at work while the other has none for them.
#pragma once

#include "cuda/gram/row_conversion.h"

namespace nrc_fast::cuda {

template <class Gram>
class RowProducts {
 public:
  NRC_FAST_DEVICE explicit RowProducts(const RowMemory<Gram>& memory) : memory_(memory), sums_(memory.sums) {
    large_.clear();
    small_.clear();
  }

  // Those of a segment of `count` stages, of which the first has its planes. `work_beside` has the index of a stage,
  // and writes the planes of the one behind it; `save` takes the sums of at most `slab_blocks` stages, and leaves
  // zeros.
  template <class Beside, class Save>
  NRC_FAST_DEVICE void add(int count, bool is_diagonal, const Beside& work_beside, const Save& save) {
    for (int b = 0; b < count;) {
      const int fold_end = b + Gram::fold_blocks() < count ? b + Gram::fold_blocks() : count;
      for (; b < fold_end; ++b) {
        synchronize_block();  // the planes are there for all threads, and all are done with those before
        if (!multiplies_first()) work_beside(b);
        const char* const stage = memory_.stage(b);
        multiply_block<true, Gram>(stage, stage + (is_diagonal ? 0 : Gram::side_bytes), places_, large_, small_);
        if (multiplies_first()) work_beside(b);
      }
      fold_into(sums_, small_);
      fold_into(sums_, large_);
      if (b % Gram::slab_blocks == 0 || b == count) save(sums_);
    }
  }

 private:
  // Smaller blocks are several on a multiprocessor, which do not wait for one another.
  NRC_FAST_DEVICE static bool multiplies_first() {
    constexpr int warps = Gram::threads / warp_lanes;
    if constexpr (warps < 8) return false;
    return thread_index() / warp_lanes >= warps / 2;
  }

  const RowMemory<Gram>& memory_;
  const WarpPlaces<Gram> places_;
  Accumulators<Gram::accumulators> large_;
  Accumulators<Gram::accumulators> small_;
  FoldedSums<Gram> sums_;
};

}  // namespace nrc_fast::cuda
