// Gram of rows of any dtype and layout without tensor cores, in float64 or, folded into it, in float32. Rows go through
// registers into shared memory, as they are stored while the block before is used, then converted, shifted and scaled.
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {
namespace {

constexpr int size = 64;
constexpr int depth = direct_block_rows;
constexpr int threads = 128;
constexpr int loads = size * depth / threads;
constexpr int rows_of_load = threads / size;
// Threads that write 4 columns at once lie in different banks.
constexpr int padded = size + 4;
constexpr int fold_blocks = 256 / depth;

struct DirectGramArguments {
  ScaledRows features;
  WorkPlan plan;
  double* slabs;
};

// What a thread reads of one side of a tile: of one column every second row of a block.
template <class Row, class Value>
struct SideColumn {
  const Row* first;  // in the first row of this thread; of a column beyond the last one, in that
  HighAndLow<Value> shift;
  bool is_valid;
  Row stored[loads] = {};

  NRC_FAST_DEVICE SideColumn(const ScaledRows& features, std::int64_t column)
      : shift(column_shift<Value>(features.shift, column, features.rows.columns)),
        is_valid(column < features.rows.columns) {
    const std::int64_t last = features.rows.columns - 1;
    first = static_cast<const Row*>(features.rows.data) + (is_valid ? column : last) * features.rows.column_stride;
  }

  // Loads alone, with no branch around any of them: rows beyond the last one are that.
  NRC_FAST_DEVICE void read(const MatrixView& rows, std::int64_t block) {
    const std::int64_t row = block * depth + thread_index() / size;
    if ((block + 1) * depth <= rows.rows) {
      const Row* const source = first + row * rows.row_stride;
#pragma unroll
      for (int i = 0; i < loads; ++i) stored[i] = source[i * rows_of_load * rows.row_stride];
      return;
    }
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      const std::int64_t wanted = row + i * rows_of_load;
      stored[i] = first[(wanted < rows.rows ? wanted : rows.rows - 1) * rows.row_stride];
    }
  }

  NRC_FAST_DEVICE void write(const ScaledRows& features, std::int64_t block, Value* side) const {
    Value* const target = side + thread_index() / size * padded + thread_index() % size;
    const std::int64_t row = block * depth + thread_index() / size;
    const std::int64_t left = is_valid ? features.rows.rows - row : 0;
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      Value value = as<Value>(stored[i]) - shift.high;
      if constexpr (sizeof(Value) == 4) value -= shift.low;
      target[i * rows_of_load * padded] = i * rows_of_load < left ? value : Value{0};
    }
    if (features.scale == nullptr && features.common == nullptr) return;
    double scales[loads];
    const std::int64_t last = features.rows.rows - 1;
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      const std::int64_t wanted = row + i * rows_of_load;
      const double scale = features.scale == nullptr ? 1.0 : features.scale[wanted < last ? wanted : last];
      scales[i] = i * rows_of_load < left ? scale : 0.0;
    }
    const double common = features.common == nullptr ? 1.0 : *features.common;
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      Value& value = target[i * rows_of_load * padded];
      const double scaled = static_cast<double>(value) * common * scales[i];
      value = scales[i] == 0.0 ? Value{0} : static_cast<Value>(scaled);
    }
  }
};

// Sums of one thread: 8 x 4 elements side by side.
template <class Value>
struct SimtSums {
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
  NRC_FAST_DEVICE void write(double* slab) {
    fold();
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      slab[(thread_index() / 16 * 8 + i / 4) * size + thread_index() % 16 * 4 + i % 4] = totals[i];
    }
  }
};

template <class Row, class Value>
NRC_FAST_GLOBAL(threads, 2)
gram_direct_kernel(DirectGramArguments arguments) {
  // Where float64 tensor cores are, no launch forms float64 sums without them.
  if constexpr (sizeof(Value) == 8 && !runs_float64_without_tensor_cores) {
    fail();
    return;
  }
  if (!are_usable(arguments.features.guard)) return;
  Value* const shared = static_cast<Value*>(static_cast<void*>(shared_memory()));
  constexpr int side_size = depth * padded;
  const MatrixView& rows = arguments.features.rows;
  SimtSums<Value> sums;
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    if (segment.first_block == segment.last_block) continue;
    const TilePosition tile = tile_position(segment.tile);
    const bool is_diagonal = tile.row == tile.column;
    SideColumn<Row, Value> left_column(arguments.features, tile.row * size + thread_index() % size);
    SideColumn<Row, Value> right_column(arguments.features, tile.column * size + thread_index() % size);
    sums.clear();
    left_column.read(rows, segment.first_block);
    if (!is_diagonal) right_column.read(rows, segment.first_block);
    int stage = 0;
    int folded = 0;
    for (std::int64_t b = segment.first_block; b < segment.last_block; ++b) {
      Value* const left = shared + stage * 2 * side_size;
      Value* const right = left + (is_diagonal ? 0 : side_size);
      left_column.write(arguments.features, b, left);
      if (!is_diagonal) right_column.write(arguments.features, b, right);
      // One barrier is enough: the stage written next is the one that was read before this barrier.
      synchronize_block();
      if (b + 1 < segment.last_block) {
        left_column.read(rows, b + 1);
        if (!is_diagonal) right_column.read(rows, b + 1);
      }
      sums.add(left, right);
      stage ^= 1;
      if (++folded == fold_blocks) {
        folded = 0;
        sums.fold();
      }
    }
    sums.write(arguments.slabs + segment.slab * (size * size));
    synchronize_block();  // before the next segment fills a stage that others still read
  }
}

template <class Value>
constexpr std::int64_t direct_shared_bytes = 4 * depth * padded * static_cast<std::int64_t>(sizeof(Value));

// Calls `use(kernel, bytes of shared memory)` for the kernel of a method and a type of rows.
template <class Use>
void with_direct_kernel(GramMethod method, DType dtype, const Use& use) {
  with_row_type(dtype, [&](auto row) {
    using Row = decltype(row);
    if (method == GramMethod::float64) return use(gram_direct_kernel<Row, double>, direct_shared_bytes<double>);
    // float64 rows are never computed in float32.
    if constexpr (sizeof(Row) < 8) use(gram_direct_kernel<Row, float>, direct_shared_bytes<float>);
  });
}

}  // namespace

std::int64_t direct_gram_blocks(GramMethod method, DType dtype) {
  std::int64_t blocks = 1;
  with_direct_kernel(method, dtype, [&](auto kernel, std::int64_t shared_bytes) {
    blocks = resident_blocks(kernel, "gram_direct", threads, shared_bytes);
  });
  return blocks;
}

void add_direct_gram(GramMethod method, const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream) {
  const DirectGramArguments arguments{rows, plan_for(method, rows.rows.rows, rows.rows.columns, workers), slabs};
  with_direct_kernel(method, rows.rows.dtype, [&](auto kernel, std::int64_t shared_bytes) {
    launch(kernel, "gram_direct", {static_cast<unsigned>(workers)}, threads, shared_bytes, stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
