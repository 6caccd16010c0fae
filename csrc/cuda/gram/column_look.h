// What is found of float64 products' rows beside them, from the stages that feed these: each thread looks at one
// column, for its sums, products with a few targets and the largest magnitude, and for rows that are zero or not
// finite.
#pragma once

#include "cuda/gram/column_products.h"
#include "cuda/gram/double_sums.h"
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {

// A stage has 64 bytes of each column, whatever their type.
template <class Row, int columns>
struct LookedStage {
  static constexpr int size = sizeof(Row);
  static constexpr int depth = 64 / size;
  static constexpr int pitch = columns * size + 32;
  static constexpr int rows_bytes = depth * pitch;
};

struct LookedArguments {
  WideMomentTask task;
  WorkPlan plan;
  double* slabs;
  int target_size;   // bytes of one
  int target_bytes;  // of a row
  int stage_bytes;
  CopyKind copies;
};

// Of the rows and their targets.
template <class Row, int columns>
int looked_stage_bytes(const MatrixView& targets) {
  using Stage = LookedStage<Row, columns>;
  return static_cast<int>(Stage::rows_bytes +
                          round_up(Stage::depth * targets.columns * size_of(targets.dtype), std::int64_t{16}));
}

template <class Row, int columns>
LookedArguments looked_arguments(const WideMomentTask& task, std::int64_t workers, double* slabs) {
  return {task,
          plan_for(GramMethod::tensor_float64, task.features.rows, task.features.columns, workers),
          slabs,
          static_cast<int>(size_of(task.targets.dtype)),
          static_cast<int>(task.targets.columns * size_of(task.targets.dtype)),
          looked_stage_bytes<Row, columns>(task.targets),
          copy_kind(task.features)};
}

// The rows of a stage that are left out, as bits, for one stage after the other. In kernels that do not sift there are
// none, and it takes no instruction to know.
template <class Stage, bool sifts>
class StageGaps {
  static_assert(Stage::depth <= mask_rows);

 public:
  NRC_FAST_DEVICE StageGaps(const WideMomentTask& task, std::int64_t first_row)
      : masks_(task.left_out), eight_(static_cast<std::uint32_t>(first_row / looked_rows)) {}

  NRC_FAST_DEVICE std::uint32_t next(int rows_left) {
    if constexpr (!sifts) return 0;
    constexpr std::uint32_t word_eights = mask_rows / looked_rows;
    std::uint32_t bits = 0;
#pragma unroll
    for (int first = 0; first < Stage::depth; first += looked_rows) {
      if (first < rows_left) {
        bits |= (masks_[eight_ / word_eights] >> (eight_ % word_eights * looked_rows) & 0xffu) << first;
      }
      ++eight_;
    }
    return bits;
  }

 private:
  const std::uint32_t* masks_;
  std::uint32_t eight_;  // of rows, as in ColumnLook
};

// What a thread has seen of one column of the rows.
template <class Row, int stage_columns, bool has_targets, class Products>
class ColumnLook {
  using Stage = LookedStage<Row, stage_columns>;
  static constexpr std::uint32_t word_looks = mask_rows / looked_rows;

 public:
  // Of the first `columns` columns of a stage. Behind their shifts, of all columns of the stage, is memory for the
  // targets of the rows that a warp looks at.
  NRC_FAST_DEVICE ColumnLook(const LookedArguments& arguments, int columns, std::int64_t first_row, double* shifts,
                             const Products& products)
      : task_(arguments.task),
        rows_(static_cast<std::uint32_t>(first_row / looked_rows)),
        shifts_(shifts),
        has_column_(thread_index() < columns),
        targets_(has_targets ? static_cast<int>(arguments.task.targets.columns) : 0),
        target_size_(arguments.target_size),
        target_bytes_(arguments.target_bytes),
        products_(products) {}

  // Without the rows that are left out.
  NRC_FAST_DEVICE void see(const char* stage, int rows_left, std::uint32_t left_out) {
#pragma unroll 1
    for (int first = 0; first < Stage::depth; first += looked_rows) {
      if constexpr (has_targets) {
        convert_targets(task_.targets, task_.target_shift, stage + Stage::rows_bytes + first * target_bytes_,
                        target_bytes_, target_size_, rows_left - first, converted(), left_out >> first);
      }
      const char* const column = stage + first * Stage::pitch + thread_index() * Stage::size;
      if (rows_left - first >= looked_rows) {
        see_rows<true>(column, looked_rows, left_out >> first);
      } else {
        see_rows<false>(column, rows_left - first, left_out >> first);
      }
      ++rows_;
      if (rows_ % word_looks == 0) mark_filled();
      if constexpr (has_targets) synchronize_warp();  // all have read what is converted anew
    }
  }

  // After the last row.
  NRC_FAST_DEVICE void finish() {
    mark_filled();
    if (task_.findings.below != nullptr) {
      const double largest = warp_maximum(from_upper_half(largest_));
      if (thread_index() % warp_lanes == 0) keep_exponent(task_.findings.below, largest);
    }
  }

  NRC_FAST_DEVICE bool has_column() const { return has_column_; }
  NRC_FAST_DEVICE Products& products() { return products_; }
  NRC_FAST_DEVICE bool is_at_multiple_of(int rows) const {
    return rows_ % static_cast<std::uint32_t>(rows / looked_rows) == 0;
  }

 private:
  NRC_FAST_DEVICE double* converted() const {
    return shifts_ + stage_columns + thread_index() / warp_lanes * converted_targets;
  }

  template <bool is_whole>
  NRC_FAST_DEVICE void see_rows(const char* column, int count, std::uint32_t left_out) {
    Row stored[looked_rows];
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      stored[r] = Row{};
      if (has_column_) stored[r] = *static_cast<const Row*>(static_cast<const void*>(column + r * Stage::pitch));
    }
    std::uint32_t filled = 0;
    std::uint32_t top = 0;
    double shifted[looked_rows];
    const double shift = shifts_[thread_index()];
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      DoubleBits value;
      value.value = as_double(stored[r]);
      const std::uint32_t half = upper_half(value.value);
      if ((half | static_cast<std::uint32_t>(value.bits)) != 0) filled |= 1u << r;
      top = larger(top, half);
      shifted[r] = (is_whole || r < count) && (left_out >> r & 1u) == 0 ? value.value - shift : 0.0;
      largest_ = larger(largest_, upper_half(shifted[r]));
    }
    products_.add(shifted);
    if constexpr (has_targets) products_.add_products(shifted, targets_, converted());
    filled_ |= filled << (rows_ % word_looks * looked_rows);
    if (top >= nonfinite_half) mark_bad(stored);
  }

  NRC_FAST_DEVICE void mark_bad(const Row (&stored)[looked_rows]) const {
    std::uint32_t* const masks = task_.findings.masks.bad;
    if (masks == nullptr) return;
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      if (upper_half(as_double(stored[r])) >= nonfinite_half) {
        set_bits(masks + rows_ / word_looks, 1u << (rows_ % word_looks * looked_rows + r));
      }
    }
  }

  // Of the rows before those that come next, in one word.
  NRC_FAST_DEVICE void mark_filled() {
    std::uint32_t* const masks = task_.findings.masks.filled;
    if (masks != nullptr) {
      const std::uint32_t filled = joined_bits<warp_lanes>(filled_);
      if (thread_index() % warp_lanes == 0 && filled != 0) set_bits(masks + (rows_ - 1) / word_looks, filled);
    }
    filled_ = 0;
  }

  const WideMomentTask& task_;
  std::uint32_t rows_;  // of those that come next, in eights: 32 bits are enough
  double* shifts_;
  bool has_column_;
  int targets_;
  int target_size_;
  int target_bytes_;
  Products products_;
  std::uint32_t filled_ = 0;   // rows of a word, from the one on that a word ended with
  std::uint32_t largest_ = 0;  // upper halves of |h - shift|
};

}  // namespace nrc_fast::cuda
