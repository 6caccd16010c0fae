// The Gram matrix in float64 of rows of 65 to 128 columns, by tensor cores, and in the same read what else is wanted of
// them: sums over columns, products with a few targets, the largest magnitude, and which rows are zero or not finite.
// Whole rows are in a stage of the ring. Warps share the products out as in double_tensor.cu; beside that each thread
// looks at one column of the rows, whose sums take few of its registers. A kernel that sifts is launched behind one
// that does not, and forms all of it again where rows are to be left out.
#include "cuda/gram/column_look.h"

namespace nrc_fast::cuda {
namespace {

template <class Row, bool has_targets, bool sifts>
NRC_FAST_GLOBAL(ring_threads, 2)
gram_wide_moments_kernel(LookedArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();  // the launches never come here
    return;
  }
  using Stage = LookedStage<Row, wide_columns>;
  const WideMomentTask& task = arguments.task;
  if (sifts && are_usable(task.counts)) return;
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
  SideCopies target_side = side_copies(task.targets, arguments.target_size, CopyKind::elements, Stage::depth, first_row,
                                       0, targets, targets, Stage::rows_bytes, arguments.target_bytes);
  const auto copy_stage = [&](char* target) {
    const int rows = rows_to_copy < Stage::depth ? rows_to_copy : Stage::depth;
    copy_side<Stage::size>(side, arguments.copies, task.features.data, rows, target);
    if constexpr (has_targets) copy_targets(target_side, task.targets.dtype, task.targets.data, rows, target);
    rows_to_copy -= rows;
  };
  shifts[thread_index()] = column_shift<double>(task.shift, thread_index(), columns).high;
  ColumnLook<Row, wide_columns, has_targets, ColumnProducts> look(arguments, columns, first_row, shifts, {});
  StageGaps<Stage, sifts> gaps(task, first_row);
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
    const std::uint32_t left_out = gaps.next(rows_to_add);
    look.see(current, rows_to_add, left_out);
    LaneRow lane_row{current + lane % step_rows * Stage::pitch + lane / step_rows * Stage::size,
                     shifts + lane / step_rows, 1.0, !sifts && task.shift == nullptr};
#pragma unroll 1
    for (int k = 0; k < Stage::depth; k += step_rows) {
      const int row = k + lane % step_rows;
      lane_row.factor = row < rows_to_add && (left_out >> row & 1u) == 0 ? 1.0 : 0.0;
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
  look.finish();
  if (look.has_column()) {
    look.products().write(targets, task.findings.sums + block_index() * (1 + targets) * columns + thread_index(),
                          columns);
  }
  constexpr int lanes = double_warps * warp_lanes;
  double* const slab = arguments.slabs + segment.slab * (double_sums * lanes) + thread_index();
  sums.each(share, [&](int i, double& sum) { slab[i * lanes] = sum; });
}

template <class Row>
std::int64_t shared_bytes(const MatrixView& targets) {
  const std::int64_t converted = double_warps * converted_targets;
  return ring_stages * looked_stage_bytes<Row, wide_columns>(targets) + (wide_columns + converted) * 8;
}

// Calls `use` with a number of the rows' type and the kernel for them.
template <class Use>
void with_wide_kernel(const WideMomentTask& task, const Use& use) {
  with_row_type(task.features.dtype, [&](auto row) {
    using Row = decltype(row);
    if (task.left_out != nullptr) return use(row, gram_wide_moments_kernel<Row, true, true>);
    task.targets.columns > 0 ? use(row, gram_wide_moments_kernel<Row, true, false>)
                             : use(row, gram_wide_moments_kernel<Row, false, false>);
  });
}

}  // namespace

std::int64_t wide_moment_blocks(const WideMomentTask& task) {
  std::int64_t blocks = 0;
  with_wide_kernel(task, [&](auto row, auto kernel) {
    blocks = resident_blocks(kernel, "gram_wide_moments", ring_threads, shared_bytes<decltype(row)>(task.targets));
  });
  return blocks;
}

void form_wide_moments(const WideMomentTask& task, std::int64_t workers, double* slabs, Stream stream) {
  with_wide_kernel(task, [&](auto row, auto kernel) {
    using Row = decltype(row);
    launch(kernel, "gram_wide_moments", {static_cast<unsigned>(workers)}, ring_threads, shared_bytes<Row>(task.targets),
           stream, looked_arguments<Row, wide_columns>(task, workers, slabs));
  });
}

}  // namespace nrc_fast::cuda
