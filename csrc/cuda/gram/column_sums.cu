// Sums over rows of the shifted features and of their products with the targets, in float64: one thread for each
// column, blocks for parts of the rows, and the parts added in their order by a second kernel. A thread loads its
// numbers of many rows before it uses one; the targets of these rows are converted once for all threads.
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {
namespace {

constexpr int sum_threads = 128;
constexpr int targets_at_once = 8;
constexpr int sum_rows_at_once = sum_threads / targets_at_once;  // a target of a row for each thread
constexpr int target_buffers = 2;

template <class Row, class Target>
NRC_FAST_GLOBAL(sum_threads, 4)
column_sums_kernel(ColumnSumTask task) {
  double* const shared = static_cast<double*>(static_cast<void*>(shared_memory()));
  const std::int64_t column = block_index() * sum_threads + thread_index();
  const bool is_there = column < task.features.columns;
  const std::int64_t read_column = is_there ? column : 0;
  const std::int64_t part = block_index_y();
  const WorkPlan shares{1, task.parts, task.features.rows};
  const std::int64_t last = shares.block_at(part + 1);
  const std::int64_t first_target = block_index_z() * targets_at_once;
  const std::int64_t left = task.targets.columns - first_target;
  const int count = static_cast<int>(left < targets_at_once ? left : targets_at_once);
  const double shift = task.shift == nullptr ? 0.0 : task.shift[read_column];
  // The target that this thread converts, of one of the rows.
  const std::int64_t target = first_target + thread_index() % targets_at_once;
  const bool has_target = target < task.targets.columns;
  const double target_shift = has_target && task.target_shift != nullptr ? task.target_shift[target] : 0.0;
  double sum = 0.0;
  double products[targets_at_once];
#pragma unroll
  for (int t = 0; t < targets_at_once; ++t) products[t] = 0.0;
  double* buffer = shared;
  for (std::int64_t first = shares.block_at(part); first < last; first += sum_rows_at_once) {
    Row stored[sum_rows_at_once];
    bool is_added[sum_rows_at_once];
#pragma unroll
    for (int r = 0; r < sum_rows_at_once; ++r) {
      const std::int64_t row = first + r < last ? first + r : first;
      stored[r] = stored_value<Row>(task.features, row, read_column);
      is_added[r] = first + r < last && (task.kept == nullptr || task.kept[row] != 0.0);
    }
    if (count > 0) {
      const std::int64_t row = first + thread_index() / targets_at_once;
      double value = 0.0;
      if (has_target && row < last) value = as_double(stored_value<Target>(task.targets, row, target)) - target_shift;
      buffer[thread_index()] = value;
      // One barrier is enough: the other buffer is written next, and was read before it.
      synchronize_block();
    }
#pragma unroll
    for (int r = 0; r < sum_rows_at_once; ++r) {
      // What is left out may be anything.
      const double value = is_added[r] ? as_double(stored[r]) - shift : 0.0;
      sum += value;
#pragma unroll
      for (int t = 0; t < targets_at_once; ++t) {
        if (t >= count) break;
        const double factor = buffer[r * targets_at_once + t];
        products[t] += is_added[r] ? factor * value : 0.0;
      }
    }
    buffer = buffer == shared ? shared + sum_threads : shared;
  }
  if (!is_there) return;
  double* const partial = task.partial + part * (1 + task.targets.columns) * task.features.columns + column;
  if (first_target == 0) partial[0] = sum;
#pragma unroll
  for (int t = 0; t < targets_at_once; ++t) {
    if (t < count) partial[(1 + first_target + t) * task.features.columns] = products[t];
  }
}

NRC_FAST_GLOBAL(sum_threads, 2)
column_sums_finalize_kernel(ColumnSumTask task) {
  if (!are_usable(task.counts)) return;
  const std::int64_t columns = task.features.columns;
  const std::int64_t size = (1 + task.targets.columns) * columns;
  for (std::int64_t index = block_index() * sum_threads + thread_index(); index < size;
       index += grid_size() * sum_threads) {
    double* const target = index < columns ? task.column_sums : task.cross;
    if (target == nullptr) continue;
    double sum = 0.0;
    for (std::int64_t part = 0; part < task.parts; ++part) sum += task.partial[part * size + index];
    target[index < columns ? index : index - columns] += sum;
  }
}

}  // namespace

std::int64_t column_sum_parts(std::int64_t rows, std::int64_t columns, std::int64_t multiprocessors) {
  const std::int64_t filling = ceiling(16 * multiprocessors, ceiling(columns, sum_threads));
  const std::int64_t longest = ceiling(rows, 64);
  const std::int64_t parts = filling < longest ? filling : longest;
  return parts < 1 ? 1 : (parts < 4096 ? parts : 4096);
}

void add_column_sums(const ColumnSumTask& task, Stream stream) {
  if (task.features.rows == 0) return;
  const std::int64_t groups = ceiling(task.targets.columns, targets_at_once);
  const Grid grid{static_cast<unsigned>(ceiling(task.features.columns, sum_threads)), static_cast<unsigned>(task.parts),
                  static_cast<unsigned>(groups < 1 ? 1 : groups)};
  with_row_type(task.features.dtype, [&](auto row) {
    with_row_type(task.targets.dtype, [&](auto target) {
      launch(column_sums_kernel<decltype(row), decltype(target)>, "column_sums", grid, sum_threads,
             target_buffers * sum_threads * 8, stream, task);
    });
  });
  add_parts_of_column_sums(task, stream);
}

void add_parts_of_column_sums(const ColumnSumTask& task, Stream stream) {
  const std::int64_t blocks = ceiling((1 + task.targets.columns) * task.features.columns, sum_threads);
  launch(column_sums_finalize_kernel, "column_sums_finalize", {static_cast<unsigned>(blocks < 65536 ? blocks : 65536)},
         sum_threads, 0, stream, task);
}

}  // namespace nrc_fast::cuda
