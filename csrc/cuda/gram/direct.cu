// Gram of rows of any dtype and layout, in float64 by tensor cores or SIMT, or in float32 by SIMT. Rows are converted,
// shifted and scaled on their way through registers into shared memory; the next block is read while one is used.
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {
namespace {

constexpr int size = 64;
constexpr int depth = 16;
constexpr int threads = 128;
constexpr int loads = size * depth / threads;
// Lanes of a float64 fragment read 4 columns of 4 rows at once: these must lie in different banks.
constexpr int padded = size + 4;
constexpr int fold_blocks = 256 / depth;

struct DirectGramArguments {
  ScaledRows features;
  WorkPlan plan;
  double* slabs;
};

template <class Row, class Value>
NRC_FAST_DEVICE void read_side(const ScaledRows& features, std::int64_t column, const HighAndLow<Value>& shift,
                               std::int64_t block, Value (&values)[loads]) {
#pragma unroll
  for (int i = 0; i < loads; ++i) {
    const std::int64_t row = block * depth + i * (threads / size) + thread_index() / size;
    Value value = 0;
    if (row < features.rows.rows && column < features.rows.columns) {
      value = as<Value>(stored_value<Row>(features.rows, row, column)) - shift.high;
      if constexpr (sizeof(Value) == 4) value -= shift.low;
      value = scaled(features, row, value);
    }
    values[i] = value;
  }
}

template <class Value>
NRC_FAST_DEVICE void write_side(Value* side, const Value (&values)[loads]) {
#pragma unroll
  for (int i = 0; i < loads; ++i) {
    side[(i * (threads / size) + thread_index() / size) * padded + thread_index() % size] = values[i];
  }
}

// Sums of one thread: 8 x 4 elements side by side.
template <class Value>
struct SimtSums {
  static constexpr bool is_launched = sizeof(Value) == 4 || runs_float64_without_tensor_cores;

  double totals[32];
  Value sums[32];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      totals[i] = 0.0;
      sums[i] = 0;
    }
  }
  NRC_FAST_DEVICE void add(const Value* left, const Value* right) {
    const int row = thread_index() / 16 * 8;
    const int column = thread_index() % 16 * 4;
#pragma unroll
    for (int k = 0; k < depth; ++k) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i * 4 + j] += left[k * padded + row + i] * right[k * padded + column + j];
      }
    }
  }
  NRC_FAST_DEVICE void fold() {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      totals[i] += static_cast<double>(sums[i]);
      sums[i] = 0;
    }
  }
  NRC_FAST_DEVICE void add_to(double* slab) {
    fold();
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      slab[(thread_index() / 16 * 8 + i / 4) * size + thread_index() % 16 * 4 + i % 4] += totals[i];
    }
    clear();
  }
};

// Sums of one warp of four: 32 x 32 elements as accumulators of 8 x 8.
struct TensorSums {
  static constexpr bool is_launched = true;

  double sums[4][4][2];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < 32; ++i) sums[i / 8][i / 2 % 4][i % 2] = 0.0;
  }
  NRC_FAST_DEVICE void add(const double* left, const double* right) {
    const int lane = thread_index() % warp_lanes;
    const int warp = thread_index() / warp_lanes;
    const double* const left_lane_values = left + lane % 4 * padded + warp / 2 * 32 + lane / 4;
    const double* const right_lane_values = right + lane % 4 * padded + warp % 2 * 32 + lane / 4;
#pragma unroll
    for (int k = 0; k < depth; k += 4) {
      double lefts[4];
      double rights[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        lefts[i] = left_lane_values[k * padded + i * 8];
        rights[i] = right_lane_values[k * padded + i * 8];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply_add(sums[i][j], lefts[i], rights[j]);
      }
    }
  }
  NRC_FAST_DEVICE void fold() {}
  NRC_FAST_DEVICE void add_to(double* slab) {
    const int warp = thread_index() / warp_lanes;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const TileElement inner = double_accumulator_element(thread_index() % warp_lanes, i % 2);
      const int row = warp / 2 * 32 + i / 8 * 8 + inner.row;
      const int column = warp % 2 * 32 + i / 2 % 4 * 8 + inner.column;
      slab[row * size + column] += sums[i / 8][i / 2 % 4][i % 2];
    }
    clear();
  }
};

template <class Row, class Value, class Sums>
NRC_FAST_GLOBAL(threads, 2)
gram_direct_kernel(DirectGramArguments arguments) {
  if constexpr (!Sums::is_launched) {
    fail();
    return;
  }
  if (!are_usable(arguments.features.guard)) return;
  Value* const shared = static_cast<Value*>(static_cast<void*>(shared_memory()));
  constexpr int side_size = depth * padded;
  Sums sums;
  sums.clear();
  Value next[2][loads];
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    if (segment.first_block == segment.last_block) continue;
    const TilePosition tile = tile_position(segment.tile);
    const bool is_diagonal = tile.row == tile.column;
    const std::int64_t columns[2] = {tile.row * size + thread_index() % size,
                                     tile.column * size + thread_index() % size};
    const HighAndLow<Value> shifts[2] = {
        column_shift<Value>(arguments.features.shift, columns[0], arguments.features.rows.columns),
        column_shift<Value>(arguments.features.shift, columns[1], arguments.features.rows.columns)};
    read_side<Row>(arguments.features, columns[0], shifts[0], segment.first_block, next[0]);
    if (!is_diagonal) read_side<Row>(arguments.features, columns[1], shifts[1], segment.first_block, next[1]);
    int stage = 0;
    int folded = 0;
    for (std::int64_t b = segment.first_block; b < segment.last_block; ++b) {
      Value* const left = shared + stage * 2 * side_size;
      Value* const right = left + (is_diagonal ? 0 : side_size);
      write_side(left, next[0]);
      if (!is_diagonal) write_side(right, next[1]);
      // One barrier is enough: the stage written next is the one that was read before this barrier.
      synchronize_block();
      if (b + 1 < segment.last_block) {
        read_side<Row>(arguments.features, columns[0], shifts[0], b + 1, next[0]);
        if (!is_diagonal) read_side<Row>(arguments.features, columns[1], shifts[1], b + 1, next[1]);
      }
      sums.add(left, right);
      stage ^= 1;
      if (++folded == fold_blocks) {
        folded = 0;
        sums.fold();
      }
    }
    sums.add_to(arguments.slabs + segment.slab * (size * size));
    synchronize_block();  // before the next segment fills a stage that others still read
  }
}

template <class Row, class Value, class Sums>
void launch_direct(const DirectGramArguments& arguments, Stream stream) {
  launch(gram_direct_kernel<Row, Value, Sums>, "gram_direct", {static_cast<unsigned>(arguments.plan.workers)}, threads,
         4 * depth * padded * static_cast<std::int64_t>(sizeof(Value)), stream, arguments);
}

}  // namespace

void add_direct_gram(GramMethod method, const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream) {
  if (rows.rows.rows == 0) return;
  const DirectGramArguments arguments{rows, plan_for(method, rows.rows.rows, rows.rows.columns, workers), slabs};
  with_row_type(rows.rows.dtype, [&](auto row) {
    using Row = decltype(row);
    if (method == GramMethod::tensor_float64) return launch_direct<Row, double, TensorSums>(arguments, stream);
    if (method == GramMethod::float64) return launch_direct<Row, double, SimtSums<double>>(arguments, stream);
    // float64 rows are never computed in float32.
    if constexpr (sizeof(Row) < 8) launch_direct<Row, float, SimtSums<float>>(arguments, stream);
  });
}

}  // namespace nrc_fast::cuda
