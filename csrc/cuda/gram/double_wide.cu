// The Gram matrix in float64 of rows of 65 to 128 columns, by tensor cores, and in the same read what else is wanted of
// them: sums over columns, products with a few targets, the largest magnitude, and which rows are zero or not finite.
// Whole rows are in a stage of the ring. Warps share the products out as in double_tensor.cu; beside that each thread
// looks at one column of the rows, whose sums take few of its registers.
#include "cuda/gram/column_products.h"
#include "cuda/gram/double_sums.h"
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {
namespace {

struct WideArguments {
  WideMomentTask task;
  WorkPlan plan;
  double* slabs;
  int target_bytes;  // of a row
  int stage_bytes;
  CopyKind copies;
};

// A stage has 8 KiB of 128 columns, whatever their type.
template <class Row>
struct WideStage {
  static constexpr int size = sizeof(Row);
  static constexpr int depth = 64 / size;
  static constexpr int pitch = wide_columns * size + 32;
  static constexpr int rows_bytes = depth * pitch;
};

// What a thread has seen of one column of the rows.
template <class Row, bool has_targets>
class ColumnLook {
  using Stage = WideStage<Row>;

 public:
  // `converted` is memory of the warp, for targets of the rows that it looks at.
  NRC_FAST_DEVICE ColumnLook(const WideArguments& arguments, std::int64_t first_row, double shift, double* converted)
      : arguments_(arguments),
        row_(first_row),
        converted_(converted),
        shift_(shift),
        has_column_(thread_index() < static_cast<int>(arguments.task.features.columns)),
        targets_(has_targets ? static_cast<int>(arguments.task.targets.columns) : 0) {}

  NRC_FAST_DEVICE void see(const char* stage, int rows_left) {
#pragma unroll 1
    for (int first = 0; first < Stage::depth; first += looked_rows) {
      if constexpr (has_targets) {
        convert_targets(arguments_.task.targets, arguments_.task.target_shift,
                        stage + Stage::rows_bytes + first * arguments_.target_bytes, arguments_.target_bytes,
                        arguments_.target_bytes / targets_, rows_left - first, converted_);
      }
      const char* const column = stage + first * Stage::pitch + thread_index() * Stage::size;
      if (rows_left - first >= looked_rows) {
        see_rows<true>(column, looked_rows);
      } else {
        see_rows<false>(column, rows_left - first);
      }
      row_ += looked_rows;
      if (row_ % mask_rows == 0) mark_filled();
      if constexpr (has_targets) synchronize_warp();  // all have read what is converted anew
    }
  }

  // After the last row.
  NRC_FAST_DEVICE void write(double* partial) {
    mark_filled();
    if (arguments_.task.findings.below != nullptr) {
      const double largest = warp_maximum(from_upper_half(largest_));
      if (thread_index() % warp_lanes == 0) keep_exponent(arguments_.task.findings.below, largest);
    }
    if (!has_column_) return;
    const auto columns = static_cast<int>(arguments_.task.features.columns);
    double* const column = partial + thread_index();
    column[0] = products_.sum;
#pragma unroll
    for (int t = 0; t < most_targets; ++t) {
      if (t < targets_) column[(1 + t) * columns] = products_.products[t];
    }
  }

 private:
  template <bool is_whole>
  NRC_FAST_DEVICE void see_rows(const char* column, int count) {
    Row stored[looked_rows];
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      stored[r] = Row{};
      if (has_column_) stored[r] = *static_cast<const Row*>(static_cast<const void*>(column + r * Stage::pitch));
    }
    std::uint32_t filled = 0;
    std::uint32_t top = 0;
    double shifted[looked_rows];
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      DoubleBits value;
      value.value = as_double(stored[r]);
      const std::uint32_t half = upper_half(value.value);
      if ((half | static_cast<std::uint32_t>(value.bits)) != 0) filled |= 1u << r;
      top = larger(top, half);
      shifted[r] = is_whole || r < count ? value.value - shift_ : 0.0;
      largest_ = larger(largest_, upper_half(shifted[r]));
    }
    products_.add(shifted);
    if constexpr (has_targets) products_.add_products(shifted, targets_, converted_);
    filled_ |= filled << (row_ % mask_rows);
    if (top >= nonfinite_half) mark_bad(stored);
  }

  NRC_FAST_DEVICE void mark_bad(const Row (&stored)[looked_rows]) const {
    std::uint32_t* const masks = arguments_.task.findings.masks.bad;
    if (masks == nullptr) return;
#pragma unroll
    for (int r = 0; r < looked_rows; ++r) {
      if (upper_half(as_double(stored[r])) >= nonfinite_half) {
        set_bits(masks + row_ / mask_rows, 1u << (row_ % mask_rows + r));
      }
    }
  }

  // Of the rows before `row_` in one word.
  NRC_FAST_DEVICE void mark_filled() {
    std::uint32_t* const masks = arguments_.task.findings.masks.filled;
    if (masks != nullptr) {
      const std::uint32_t filled = joined_bits<warp_lanes>(filled_);
      if (thread_index() % warp_lanes == 0 && filled != 0) set_bits(masks + (row_ - 1) / mask_rows, filled);
    }
    filled_ = 0;
  }

  const WideArguments& arguments_;
  std::int64_t row_;
  double* converted_;
  double shift_;
  bool has_column_;
  int targets_;
  ColumnProducts products_;
  std::uint32_t filled_ = 0;   // rows of a word, from the one on that a word ended with
  std::uint32_t largest_ = 0;  // upper halves of |h - shift|
};

template <class Row, bool has_targets>
NRC_FAST_GLOBAL(ring_threads, 2)
gram_wide_moments_kernel(WideArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();  // the launches never come here
    return;
  }
  using Stage = WideStage<Row>;
  const WideMomentTask& task = arguments.task;
  char* const shared = shared_memory();
  double* const shifts = static_cast<double*>(static_cast<void*>(shared + ring_stages * arguments.stage_bytes));
  Segment segment{};
  if (!find_segment(arguments.plan, block_index(), 0, segment)) return;
  const auto columns = static_cast<int>(task.features.columns);
  const int lane = thread_index() % warp_lanes;
  const int warp = thread_index() / warp_lanes;
  const DoubleShare share = double_share({0, 0, columns, true}, warp);
  const std::int64_t first_row = segment.first_block * direct_block_rows;
  const std::int64_t end = segment.last_block * direct_block_rows;
  int rows_to_copy = static_cast<int>((end < task.features.rows ? end : task.features.rows) - first_row);
  int rows_to_add = rows_to_copy;
  SideCopies side = side_copies(task.features, Stage::size, arguments.copies, Stage::depth, first_row, 0, columns,
                                (columns + strip - 1) / strip * strip, 0, Stage::pitch);
  const int targets = has_targets ? static_cast<int>(task.targets.columns) : 0;
  const int target_size = has_targets ? arguments.target_bytes / targets : 1;
  SideCopies target_side = side_copies(task.targets, target_size, CopyKind::elements, Stage::depth, first_row, 0,
                                       targets, targets, Stage::rows_bytes, arguments.target_bytes);
  const auto copy_stage = [&](char* target) {
    const int rows = rows_to_copy < Stage::depth ? rows_to_copy : Stage::depth;
    copy_side<Stage::size>(side, arguments.copies, task.features.data, rows, target);
    if constexpr (has_targets) copy_targets(target_side, task.targets.dtype, task.targets.data, rows, target);
    rows_to_copy -= rows;
  };
  const double shift = column_shift<double>(task.shift, thread_index(), columns).high;
  shifts[thread_index()] = shift;
  ColumnLook<Row, has_targets> look(arguments, first_row, shift, shifts + wide_columns + warp * (converted_targets));
  DoubleSums sums;
  sums.clear();
#pragma unroll
  for (int s = 0; s < ring_stages - 1; ++s) {
    if (rows_to_copy > 0) copy_stage(shared + s * arguments.stage_bytes);
    commit_copies();
  }
  int at = 0;  // the stage that is used, and behind it the one that is filled
#pragma unroll 1
  for (; rows_to_add > 0; rows_to_add -= Stage::depth) {
    wait_for_copies<ring_stages - 2>();
    synchronize_block();  // the stage has arrived for all threads, and all are done with the one before it
    if (rows_to_copy > 0) copy_stage(shared + (at == 0 ? ring_stages - 1 : at - 1) * arguments.stage_bytes);
    commit_copies();
    const char* const current = shared + at * arguments.stage_bytes;
    look.see(current, rows_to_add);
    LaneRow lane_row{current + lane % step_rows * Stage::pitch + lane / step_rows * Stage::size,
                     shifts + lane / step_rows, 1.0, task.shift == nullptr};
#pragma unroll 1
    for (int k = 0; k < Stage::depth; k += step_rows) {
      lane_row.factor = k + lane % step_rows < rows_to_add ? 1.0 : 0.0;
      if (share.is_triangle) {
        sums.add_triangle<Row>(lane_row, share.left, share.columns);
      } else {
        sums.add_rectangle<Row>(lane_row, share.left, share.columns, share.right);
      }
      lane_row.values += step_rows * Stage::pitch;
    }
    at = at == ring_stages - 1 ? 0 : at + 1;
  }
  wait_for_copies<0>();
  look.write(task.findings.sums + block_index() * (1 + targets) * columns);
  constexpr int lanes = double_warps * warp_lanes;
  double* const slab = arguments.slabs + segment.slab * (double_sums * lanes) + thread_index();
  sums.each(share, [&](int i, double& sum) { slab[i * lanes] = sum; });
}

template <class Row>
std::int64_t stage_bytes(const MatrixView& targets) {
  return WideStage<Row>::rows_bytes +
         round_up(WideStage<Row>::depth * targets.columns * size_of(targets.dtype), std::int64_t{16});
}

template <class Row>
std::int64_t shared_bytes(const MatrixView& targets) {
  const std::int64_t converted = double_warps * converted_targets;
  return ring_stages * stage_bytes<Row>(targets) + (wide_columns + converted) * 8;
}

// Calls `use` with a number of the rows' type and the kernel for them.
template <class Use>
void with_wide_kernel(const MatrixView& features, const MatrixView& targets, const Use& use) {
  with_row_type(features.dtype, [&](auto row) {
    using Row = decltype(row);
    targets.columns > 0 ? use(row, gram_wide_moments_kernel<Row, true>)
                        : use(row, gram_wide_moments_kernel<Row, false>);
  });
}

}  // namespace

bool can_form_wide_moments(const MatrixView& features) {
  return features.columns > narrow_columns && features.columns <= wide_columns;
}

std::int64_t wide_moment_blocks(const MatrixView& features, const MatrixView& targets) {
  std::int64_t blocks = 0;
  with_wide_kernel(features, targets, [&](auto row, auto kernel) {
    blocks = resident_blocks(kernel, "gram_wide_moments", ring_threads, shared_bytes<decltype(row)>(targets));
  });
  return blocks;
}

void form_wide_moments(const WideMomentTask& task, std::int64_t workers, double* slabs, Stream stream) {
  const WorkPlan plan = plan_for(GramMethod::tensor_float64, task.features.rows, task.features.columns, workers);
  with_wide_kernel(task.features, task.targets, [&](auto row, auto kernel) {
    using Row = decltype(row);
    const WideArguments arguments{task,
                                  plan,
                                  slabs,
                                  static_cast<int>(task.targets.columns * size_of(task.targets.dtype)),
                                  static_cast<int>(stage_bytes<Row>(task.targets)),
                                  copy_kind(task.features)};
    launch(kernel, "gram_wide_moments", {static_cast<unsigned>(workers)}, ring_threads, shared_bytes<Row>(task.targets),
           stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
