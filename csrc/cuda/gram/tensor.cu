// Gram of 16-bit rows by tensor cores: sums of products of one to three planes, mma.m16n8k16.
//
// A block works through its segments of the plan. Rows come by asynchronous copies into a ring of stages, both sides
// of a tile once where they are the same columns. Tensor cores round toward zero, so that a long sum of squares would
// be biased: every few hundred rows the accumulators are added to a second set in registers, rounding to nearest,
// and that set every few thousand rows to the float64 slab. Products of the small planes have accumulators of their
// own, or the large ones would cut them off.
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {
namespace {

struct TensorGramArguments {
  Planes planes;
  WorkPlan plan;
  double* slabs;
};

template <int parts, int size>
struct TensorGram {
  using Layout = WarpLayout<size>;
  static constexpr int threads = Layout::warps * warp_lanes;
  static constexpr int stage_rows = parts == 1 ? 32 : 16;
  static constexpr int stages = 4;
  static constexpr int side_bytes = stage_rows * size * 2;
  static constexpr int stage_bytes = side_bytes * 2 * parts;
  static constexpr int fold_blocks = (parts == 1 ? 512 : 256) / stage_rows;
  static constexpr int slab_blocks = 8192 / stage_rows;
  static constexpr int accumulators = Layout::tall * Layout::wide;
  static constexpr bool sums_in_shared = parts > 1 && size == 128;
  static constexpr int shared_bytes = stage_bytes * stages + (sums_in_shared ? size * size * 4 : 0);
};

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
NRC_FAST_DEVICE void fold(FoldedSums<Gram>& sums, Accumulators<Gram::accumulators>& more) {
#pragma unroll
  for (int i = 0; i < Gram::accumulators * 4; ++i) sums.at(i) += more.values[i / 4][i % 4];
  more.clear();
}

template <class Gram>
NRC_FAST_DEVICE void add_to_slab(FoldedSums<Gram>& sums, double* slab) {
#pragma unroll
  for (int i = 0; i < Gram::accumulators * 4; ++i) {
    if (i % 8 == 0) keep_order();  // or the values of the slab would all be loaded first, into registers
    slab[i * Gram::threads + thread_index()] += static_cast<double>(sums.at(i));
    sums.at(i) = 0.0f;
  }
}

template <int parts, int size>
NRC_FAST_DEVICE void copy_block(const Planes& planes, int tile_row, int tile_column, int first_sample, char* stage) {
  using Gram = TensorGram<parts, size>;
  constexpr int row_chunks = size / chunk_columns;
#pragma unroll
  for (int i = 0; i < Gram::stage_rows * row_chunks; i += Gram::threads) {
    const int row = (i + thread_index()) / row_chunks;
    const int chunk = (i + thread_index()) % row_chunks;
    const int sample = first_sample + row;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      if (side == 1 && tile_row == tile_column) break;
      const int column = (side == 0 ? tile_row : tile_column) * size + chunk * chunk_columns;
      const int left = static_cast<int>(planes.columns) - column;
      const int valid =
          sample < static_cast<int>(planes.rows) && left > 0 ? (left < chunk_columns ? left : chunk_columns) * 2 : 0;
      const std::uint16_t* const source = valid == 0 ? planes.data : planes.data + sample * planes.row_stride + column;
      char* const target = stage + side * Gram::side_bytes + chunk_offset(size, row, chunk);
#pragma unroll
      for (int part = 0; part < parts; ++part) {
        copy_async(target + part * 2 * Gram::side_bytes, valid == 0 ? source : source + part * planes.plane_stride,
                   valid);
      }
    }
  }
}

template <bool is_bfloat16, int parts, int size, class Sums>
NRC_FAST_DEVICE void multiply_block(const char* stage, bool is_diagonal, Sums& large, Sums& small) {
  using Gram = TensorGram<parts, size>;
  using Layout = typename Gram::Layout;
  const int lane = thread_index() % warp_lanes;
  const int warp = thread_index() / warp_lanes;
  const LaneChunk left_place = left_lane(lane);
  const LaneChunk right_place = right_lane(lane);
  const int left_chunk = warp / Layout::warps_across * Layout::tall * 2 + left_place.chunk;
  const int right_chunk = warp % Layout::warps_across * Layout::wide + right_place.chunk;
  const char* const right_side = stage + (is_diagonal ? 0 : Gram::side_bytes);
#pragma unroll
  for (int row = 0; row < Gram::stage_rows; row += 16) {
#pragma unroll
    for (int right_part = 0; right_part < parts; ++right_part) {
      std::uint32_t right[Layout::wide / 2][4];
#pragma unroll
      for (int w = 0; w < Layout::wide / 2; ++w) {
        load_transposed(right[w], right_side + right_part * 2 * Gram::side_bytes +
                                      chunk_offset(size, row + right_place.row, right_chunk + w * 2));
      }
#pragma unroll
      for (int left_part = 0; left_part + right_part < parts; ++left_part) {
#pragma unroll
        for (int t = 0; t < Layout::tall; ++t) {
          std::uint32_t left[4];
          load_transposed(left, stage + left_part * 2 * Gram::side_bytes +
                                    chunk_offset(size, row + left_place.row, left_chunk + t * 2));
#pragma unroll
          for (int w = 0; w < Layout::wide; ++w) {
            auto& sums = left_part + right_part == 0 ? large : small;
            multiply_add<is_bfloat16>(sums.values[t * Layout::wide + w], left, right[w / 2][w % 2 * 2],
                                      right[w / 2][w % 2 * 2 + 1]);
          }
        }
      }
    }
  }
}

template <bool is_bfloat16, int parts, int size>
NRC_FAST_GLOBAL((TensorGram<parts, size>::threads), 1)
gram_tensor_kernel(TensorGramArguments arguments) {
  using Gram = TensorGram<parts, size>;
  char* const shared = shared_memory();
  Accumulators<Gram::accumulators> large;
  Accumulators<Gram::accumulators> small;
  FoldedSums<Gram> sums(shared + Gram::stages * Gram::stage_bytes);
  large.clear();
  small.clear();
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    const int first_sample = static_cast<int>(segment.first_block) * Gram::stage_rows;
    const int count = static_cast<int>(segment.last_block - segment.first_block);
    if (count == 0) continue;
    const TilePosition tile = tile_position(segment.tile);
    const int tile_row = static_cast<int>(tile.row);
    const int tile_column = static_cast<int>(tile.column);
#pragma unroll
    for (int s = 0; s < Gram::stages - 1; ++s) {
      if (s < count) {
        copy_block<parts, size>(arguments.planes, tile_row, tile_column, first_sample + s * Gram::stage_rows,
                                shared + s * Gram::stage_bytes);
      }
      commit_copies();
    }
    for (int b = 0; b < count; ++b) {
      wait_for_copies<Gram::stages - 2>();
      synchronize_block();  // the block has arrived for all threads, and all are done with the one before it
      const int ahead = b + Gram::stages - 1;
      if (ahead < count) {
        copy_block<parts, size>(arguments.planes, tile_row, tile_column, first_sample + ahead * Gram::stage_rows,
                                shared + ahead % Gram::stages * Gram::stage_bytes);
      }
      commit_copies();
      multiply_block<is_bfloat16, parts, size>(shared + b % Gram::stages * Gram::stage_bytes, tile_row == tile_column,
                                               large, small);
      const bool is_last = b + 1 == count;
      if (b % Gram::fold_blocks == Gram::fold_blocks - 1 || is_last) {
        if constexpr (parts > 1) fold(sums, small);
        fold(sums, large);
      }
      if (b % Gram::slab_blocks == Gram::slab_blocks - 1 || is_last) {
        add_to_slab(sums, arguments.slabs + slab_index(arguments.plan, block_index(), ordinal) * (size * size));
      }
    }
    wait_for_copies<0>();
    synchronize_block();  // before the next segment fills the stages
  }
}

template <bool is_bfloat16, int parts, int size>
void launch_tensor_gram(const TensorGramArguments& arguments, Stream stream) {
  using Gram = TensorGram<parts, size>;
  launch(gram_tensor_kernel<is_bfloat16, parts, size>, "gram_tensor", {static_cast<unsigned>(arguments.plan.workers)},
         Gram::threads, Gram::shared_bytes, stream, arguments);
}

template <int size>
void launch_size(GramMethod method, const TensorGramArguments& arguments, Stream stream) {
  if (method == GramMethod::tensor_split) return launch_tensor_gram<true, 3, size>(arguments, stream);
  if (method == GramMethod::tensor_bfloat16) return launch_tensor_gram<true, 1, size>(arguments, stream);
  launch_tensor_gram<false, 1, size>(arguments, stream);
}

}  // namespace

void add_tensor_gram(GramMethod method, const Planes& planes, std::int64_t workers, double* slabs, Stream stream) {
  // Within a launch, rows and columns are counted with 32 bits.
  constexpr std::int64_t most_rows = std::int64_t{1} << 30;
  for (std::int64_t first = 0; first < planes.rows; first += most_rows) {
    Planes part = planes;
    part.data += first * planes.row_stride;
    part.rows = planes.rows - first < most_rows ? planes.rows - first : most_rows;
    const TensorGramArguments arguments{part, plan_for(method, part.rows, part.columns, workers), slabs};
    if (tile_size(method, planes.columns) == 64) {
      launch_size<64>(method, arguments, stream);
    } else {
      launch_size<128>(method, arguments, stream);
    }
  }
}

}  // namespace nrc_fast::cuda
