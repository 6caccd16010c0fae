// Targets beside rows that are split on the way to the tensor cores, and sums of products of the rows' columns with
// them: each thread looks at one column of eight rows of a stage, as they are stored.
#pragma once

#include "cuda/gram/column_products.h"
#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {

// Copies of one thread: one target of the row of which it copies a chunk, behind one another in the stages of a ring.
// Elements of 16 bits, for which there are no asynchronous copies, go through a register.
template <class Gram>
class TargetCopies {
 public:
  NRC_FAST_DEVICE TargetCopies(const RowTargets& beside, std::int64_t first_row, char* ring) {
    if constexpr (!Gram::has_targets) return;
    const MatrixView& targets = beside.targets;
    const int row = thread_index() / Gram::row_chunks;
    const int target = thread_index() % Gram::row_chunks;
    has_target_ = target < static_cast<int>(targets.columns);
    size_ = beside.size;
    first_ = static_cast<const char*>(targets.data);
    source_ = first_ + ((first_row + row) * targets.row_stride + target * targets.column_stride) * size_;
    step_ = targets.row_stride * Gram::stage_rows * size_;
    ring_ = ring + (row * target_pitch + target) * 8;
  }

  NRC_FAST_DEVICE void start(int stage, bool has_row) {
    if (has_target_) {
      char* const place = ring_ + stage * Gram::target_stage_bytes;
      const char* const source = has_row ? source_ : first_;
      if (size_ == 8) {
        copy_element_async<8>(place, source, has_row);
      } else if (size_ == 4) {
        copy_element_async<4>(place, source, has_row);
      } else {
        *static_cast<std::uint16_t*>(static_cast<void*>(place)) =
            *static_cast<const std::uint16_t*>(static_cast<const void*>(source));
      }
    }
    source_ += step_;
  }

 private:
  bool has_target_ = false;
  int size_ = 0;
  const char* first_ = nullptr;
  const char* source_ = nullptr;
  std::int64_t step_ = 0;
  char* ring_ = nullptr;
};

// What a thread has seen of its column.
template <class Gram>
class StageColumns {
  using Row = typename Gram::Row;
  static constexpr int piece_columns = 16 / static_cast<int>(sizeof(Row));
  static constexpr int parts = Gram::stage_rows / looked_rows;
  static_assert(parts == row_target_parts && Gram::threads == parts * Gram::size);

 public:
  NRC_FAST_DEVICE StageColumns(const MatrixView& rows, const RowTargets& targets, std::int64_t first_row,
                               const double* shift, const char* ring, char* target_ring)
      : targets_(targets),
        shift_(shift + column()),
        columns_(static_cast<int>(rows.columns)),
        rows_left_(rows.rows - first_row - part() * looked_rows) {
    if constexpr (!Gram::has_targets) return;
    const int chunk = column() % chunk_columns;
    const int thread = part() * looked_rows * Gram::row_chunks + column() / chunk_columns;
    stored_ = ring + chunk / piece_columns * Gram::piece_bytes + thread * 16 +
              chunk % piece_columns * static_cast<int>(sizeof(Row));
    stored_targets_ = target_ring + part() * looked_rows * target_pitch * 8;
    converted_ = static_cast<double*>(static_cast<void*>(target_ring + Gram::raw_stages * Gram::target_stage_bytes)) +
                 thread_index() / warp_lanes * converted_targets;
  }

  // The next stage, which has arrived for all threads.
  NRC_FAST_DEVICE void see() {
    const int left = rows_left_ < looked_rows ? static_cast<int>(rows_left_) : looked_rows;
    convert_targets(targets_.targets, targets_.shift, stored_targets_ + stage_ * Gram::target_stage_bytes,
                    target_pitch * 8, 8, left, converted_);
    double values[looked_rows];
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      const char* const place = stored_ + stage_ * Gram::raw_bytes + r * (Gram::row_chunks * 16);
      const double value = as_double(*static_cast<const Row*>(static_cast<const void*>(place)));
      values[r] = r < left ? value - *shift_ : 0.0;
    }
    products_.add(values);
    products_.add_products(values, static_cast<int>(targets_.targets.columns), converted_);
    rows_left_ -= Gram::stage_rows;
    stage_ = stage_ + 1 == Gram::raw_stages ? 0 : stage_ + 1;
  }

  NRC_FAST_DEVICE void add_to(double* partial) const {
    if (column() >= columns_) return;
    const auto count = static_cast<int>(targets_.targets.columns);
    double* const target = partial + (block_index() * parts + part()) * (1 + count) * columns_ + column();
    target[0] += products_.sum;
#pragma unroll
    for (int t = 0; t < most_targets; ++t) {
      if (t < count) target[(1 + t) * columns_] += products_.products[t];
    }
  }

 private:
  NRC_FAST_DEVICE static int column() { return thread_index() % Gram::size; }
  NRC_FAST_DEVICE static int part() { return thread_index() / Gram::size; }

  const RowTargets& targets_;
  const double* shift_;
  int columns_;
  std::int64_t rows_left_;
  const char* stored_ = nullptr;
  const char* stored_targets_ = nullptr;
  double* converted_ = nullptr;
  int stage_ = 0;
  ColumnProducts products_;
};

}  // namespace nrc_fast::cuda
