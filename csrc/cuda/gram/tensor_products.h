// Products of a stage by the tensor cores, and their sums: the accumulators, the second set that they are folded into,
// and the slab in float64.
#pragma once

#include "cuda/gram/tensor_ring.h"

namespace nrc_fast::cuda {

template <int count>
struct Accumulators {
  float values[count][4];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) values[i][r] = 0.0f;
    }
  }
};

// The second set of sums, in registers or, where those do not suffice, in shared memory: every thread has its own.
template <class Gram, bool in_shared = Gram::sums_in_shared>
struct FoldedSums {
  NRC_FAST_DEVICE explicit FoldedSums(char*) {
#pragma unroll
    for (int i = 0; i < Gram::accumulators * 4; ++i) values[i] = 0.0f;
  }
  NRC_FAST_DEVICE float& at(int index) { return values[index]; }

  float values[Gram::accumulators * 4];
};

template <class Gram>
struct FoldedSums<Gram, true> {
  NRC_FAST_DEVICE explicit FoldedSums(char* shared) : values(static_cast<float*>(static_cast<void*>(shared))) {
#pragma unroll
    for (int i = 0; i < Gram::accumulators * 4; ++i) at(i) = 0.0f;
  }
  NRC_FAST_DEVICE float& at(int index) { return values[index * Gram::threads + thread_index()]; }

  float* values;
};

template <class Gram>
NRC_FAST_DEVICE void fold_into(FoldedSums<Gram>& sums, Accumulators<Gram::accumulators>& more) {
#pragma unroll
  for (int i = 0; i < Gram::accumulators * 4; ++i) sums.at(i) += more.values[i / 4][i % 4];
  more.clear();
}

template <class Gram>
NRC_FAST_DEVICE void add_to_slab(FoldedSums<Gram>& sums, double* slab) {
  constexpr int warps = Gram::threads / warp_lanes;
  double* const first = slab + first_place<Gram::size, warps>(thread_index());
#pragma unroll
  for (int i = 0; i < Gram::accumulators * 4; ++i) {
    if (i % 8 == 0) keep_order();  // or the values of the slab would all be loaded first, into registers
    first[place_behind<Gram::size, warps>(i)] += static_cast<double>(sums.at(i));
    sums.at(i) = 0.0f;
  }
}

// Where a warp reads its matrices in a stage.
template <class Gram>
struct WarpPlaces {
  using Layout = typename Gram::Layout;
  LaneChunk left = left_lane(thread_index() % warp_lanes);
  LaneChunk right = right_lane(thread_index() % warp_lanes);

  NRC_FAST_DEVICE WarpPlaces() {
    const int warp = thread_index() / warp_lanes;
    left.chunk += warp / Layout::warps_across * Layout::tall * 2;
    right.chunk += warp % Layout::warps_across * Layout::wide;
  }
  NRC_FAST_DEVICE int left_offset(int row, int t) const {
    return chunk_offset(Gram::size, row + left.row, left.chunk + t * 2);
  }
  NRC_FAST_DEVICE int right_offset(int row, int w) const {
    return chunk_offset(Gram::size, row + right.row, right.chunk + w * 2);
  }
};

template <bool is_bfloat16, class Gram, class Large, class Small>
NRC_FAST_DEVICE void multiply_block(const char* stage, const char* right_side, const WarpPlaces<Gram>& places,
                                    Large& large, Small& small) {
  using Layout = typename Gram::Layout;
#pragma unroll
  for (int row = 0; row < Gram::stage_rows; row += 16) {
#pragma unroll
    for (int right_part = 0; right_part < Gram::parts; ++right_part) {
      std::uint32_t right[Layout::wide / 2][4];
#pragma unroll
      for (int w = 0; w < Layout::wide / 2; ++w) {
        load_transposed(right[w], right_side + right_part * Gram::part_bytes + places.right_offset(row, w));
      }
#pragma unroll
      for (int left_part = 0; left_part + right_part < Gram::parts; ++left_part) {
#pragma unroll
        for (int t = 0; t < Layout::tall; ++t) {
          std::uint32_t left[4];
          load_transposed(left, stage + left_part * Gram::part_bytes + places.left_offset(row, t));
#pragma unroll
          for (int w = 0; w < Layout::wide; ++w) {
            auto& sums = left_part + right_part == 0 ? large.values : small.values;
            multiply_add<is_bfloat16>(sums[t * Layout::wide + w], left, right[w / 2][w % 2 * 2],
                                      right[w / 2][w % 2 * 2 + 1]);
          }
        }
      }
    }
  }
}

}  // namespace nrc_fast::cuda
