// What the tensor-core kernels have found beside their products, brought together: counts of rows from the masks, and
// sums over columns from the slabs.
#include "cuda/gram/prepare.h"
#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {
namespace {

constexpr int count_threads = 256;
constexpr int word_rows = 32;
constexpr int columns_at_once = 32;
constexpr int walkers = 8;  // of the slabs, for each column

NRC_FAST_DEVICE std::int64_t warp_total(std::int64_t value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

struct RowCountTask {
  RowMasks masks;
  std::int64_t rows;
  RowCounts* counts;
};

NRC_FAST_GLOBAL(count_threads, 1)
count_rows_kernel(RowCountTask task) {
  const std::int64_t words = ceiling(task.rows, word_rows);
  std::int64_t zero = 0;
  std::int64_t bad = 0;
  for (std::int64_t word = block_index() * count_threads + thread_index(); word < words;
       word += grid_size() * count_threads) {
    const std::int64_t left = task.rows - word * word_rows;
    const std::uint32_t there = left < word_rows ? (1u << left) - 1u : 0xffffffffu;
    const std::uint32_t bad_rows = task.masks.bad[word] & there;
    zero += count_bits(~task.masks.filled[word] & there);
    if (bad_rows == 0) continue;
    bad += count_bits(bad_rows);
    keep_smallest(&task.counts->first_nonfinite, word * word_rows + lowest_bit(bad_rows));
  }
  zero = warp_total(zero);
  bad = warp_total(bad);
  if (thread_index() % warp_lanes != 0) return;
  if (zero != 0) count_more(&task.counts->zero, zero);
  if (bad != 0) count_more(&task.counts->nonfinite, bad);
}

struct KeptRowTask {
  RowMasks masks;
  std::int64_t rows;
  double* kept;
};

NRC_FAST_GLOBAL(count_threads, 1)
keep_rows_kernel(KeptRowTask task) {
  for (std::int64_t row = block_index() * count_threads + thread_index(); row < task.rows;
       row += grid_size() * count_threads) {
    const std::uint32_t bad = task.masks.bad[row / word_rows];
    task.kept[row] = (bad >> (row % word_rows) & 1u) == 0 ? 1.0 : 0.0;
    if (row % word_rows == 0 && bad != 0) task.masks.filled[row / word_rows] |= bad;
  }
}

struct SlabSumTask {
  WorkPlan plan;
  const double* sums;
  int size;
  int rows;  // of sums in a slab
  std::int64_t columns;
  const RowCounts* guard;
  double* column_sums;
};

NRC_FAST_GLOBAL(columns_at_once* walkers, 1)
slab_sums_kernel(SlabSumTask task) {
  if (!are_usable(task.guard)) return;
  double* const shared = static_cast<double*>(static_cast<void*>(shared_memory()));
  const std::int64_t column = block_index() * columns_at_once + thread_index() % columns_at_once;
  const int walker = thread_index() / columns_at_once;
  const std::int64_t tile_row = column / task.size;
  double sum = 0.0;
  if (column < task.columns) {
    SlabWalk walk(task.plan, lower_tiles(tile_row) + tile_row);
    SlabRun run{};
    // Loads of one walker do not wait for those of another.
    for (std::int64_t before = 0; walk.next(run); before += run.count) {
      for (std::int64_t i = (walker - before) & (walkers - 1); i < run.count; i += walkers) {
        const double* const sums = task.sums + run.slab(i) * task.rows * task.size + column % task.size;
#pragma unroll 8
        for (int row = 0; row < task.rows; ++row) sum += sums[row * task.size];
      }
    }
  }
  shared[thread_index()] = sum;
  synchronize_block();
  if (walker != 0 || column >= task.columns) return;
  double total = 0.0;
#pragma unroll
  for (int w = 0; w < walkers; ++w) total += shared[w * columns_at_once + thread_index()];
  task.column_sums[column] += total;
}

unsigned blocks_for(std::int64_t count) {
  const std::int64_t blocks = ceiling(count, count_threads);
  return static_cast<unsigned>(blocks < 1024 ? blocks : 1024);
}

}  // namespace

void count_rows(const RowMasks& masks, std::int64_t rows, RowCounts* counts, Stream stream) {
  if (rows == 0) return;
  const RowCountTask task{masks, rows, counts};
  launch(count_rows_kernel, "count_rows", {blocks_for(ceiling(rows, word_rows))}, count_threads, 0, stream, task);
}

void keep_rows(const RowMasks& masks, std::int64_t rows, double* kept, Stream stream) {
  if (rows == 0) return;
  const KeptRowTask task{masks, rows, kept};
  launch(keep_rows_kernel, "keep_rows", {blocks_for(rows)}, count_threads, 0, stream, task);
}

void add_slab_sums(const TensorShape& shape, std::int64_t columns, std::int64_t workers, const double* sums,
                   const RowCounts* guard, double* column_sums, Stream stream) {
  const SlabSumTask task{
      plan_for(shape.method, 0, columns, workers), sums, shape.size, sum_rows(shape), columns, guard, column_sums};
  launch(slab_sums_kernel, "slab_sums", {static_cast<unsigned>(ceiling(columns, columns_at_once))},
         columns_at_once * walkers, columns_at_once * walkers * 8, stream, task);
}

}  // namespace nrc_fast::cuda
