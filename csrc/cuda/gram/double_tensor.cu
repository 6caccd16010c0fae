// Gram of rows of any dtype and layout in float64, by tensor cores. Rows come as they are stored by asynchronous copies
// into a ring of stages, and are converted, shifted and scaled on their way from there into the fragments. A block of
// four warps works through its segments of the plan, see double_tiles.h for what each of them does.
#include "cuda/gram/double_sums.h"

namespace nrc_fast::cuda {
namespace {

struct DoubleTensorArguments {
  ScaledRows features;
  WorkPlan plan;
  double* slabs;
  StageLayout stage;
  CopyKind copies;
};

template <class Row>
NRC_FAST_GLOBAL(ring_threads, 2)
gram_double_tensor_kernel(DoubleTensorArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();  // the launches never come here
    return;
  }
  if (!are_usable(arguments.features.guard)) return;
  char* const shared = shared_memory();
  const StageLayout& stage = arguments.stage;
  double* const shifts = static_cast<double*>(static_cast<void*>(shared + ring_stages * stage.bytes));
  const ScaledRows& features = arguments.features;
  const int lane = thread_index() % warp_lanes;
  DoubleSums sums;
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    if (segment.first_block == segment.last_block) continue;
    const DoubleItem item = double_item(segment.tile, features.rows.columns);
    const DoubleShare share = double_share(item, thread_index() / warp_lanes);
    const std::int64_t first_row = segment.first_block * direct_block_rows;
    const std::int64_t end = segment.last_block * direct_block_rows;
    std::int64_t rows_to_copy = (end < features.rows.rows ? end : features.rows.rows) - first_row;
    std::int64_t rows_to_add = rows_to_copy;
    constexpr int size = sizeof(Row);
    const int padded = (item.columns + strip - 1) / strip * strip;
    SideCopies left = side_copies(features.rows, size, arguments.copies, stage.depth, first_row, item.left,
                                  item.columns, padded, 0, stage.pitch);
    SideCopies right = side_copies(features.rows, size, arguments.copies, stage.depth, first_row, item.right,
                                   narrow_columns, narrow_columns, wide_columns * size, stage.pitch);
    const double* scales = features.scale == nullptr ? nullptr : features.scale + first_row + thread_index();
    const auto copy_stage = [&](char* target) {
      const int rows = static_cast<int>(rows_to_copy < stage.depth ? rows_to_copy : stage.depth);
      copy_side<size>(left, arguments.copies, features.rows.data, rows, target);
      if (!item.is_triangle) copy_side<size>(right, arguments.copies, features.rows.data, rows, target);
      if (scales != nullptr && thread_index() < stage.depth) {
        const bool is_valid = thread_index() < rows;
        copy_element_async<8>(target + stage.depth * stage.pitch + thread_index() * 8,
                              is_valid ? scales : features.scale, is_valid);
        scales += stage.depth;
      }
      rows_to_copy -= rows;
    };
    for (int c = thread_index(); c < wide_columns + narrow_columns; c += ring_threads) {
      const std::int64_t column = c < wide_columns ? item.left + c : item.right + c - wide_columns;
      shifts[c] = column_shift<double>(features.shift, column, features.rows.columns).high;
    }
    sums.clear();
#pragma unroll
    for (int s = 0; s < ring_stages - 1; ++s) {
      if (rows_to_copy > 0) copy_stage(shared + s * stage.bytes);
      commit_copies();
    }
    int at = 0;  // the stage that is used, and behind it the one that is filled
    for (; rows_to_add > 0; rows_to_add -= stage.depth) {
      wait_for_copies<ring_stages - 2>();
      synchronize_block();  // the stage has arrived for all threads, and all are done with the one before it
      if (rows_to_copy > 0) copy_stage(shared + (at == 0 ? ring_stages - 1 : at - 1) * stage.bytes);
      commit_copies();
      const char* const current = shared + at * stage.bytes;
      const auto* const factors =
          static_cast<const double*>(static_cast<const void*>(current + stage.depth * stage.pitch));
      for (int k = share.group * step_rows; k < stage.depth; k += share.groups * step_rows) {
        const int row = k + lane % step_rows;
        LaneRow lane_row{current + row * stage.pitch + lane / step_rows * static_cast<int>(sizeof(Row)),
                         shifts + lane / step_rows, row < rows_to_add ? 1.0 : 0.0,
                         features.shift == nullptr && features.scale == nullptr};
        if (features.scale != nullptr) lane_row.factor = factors[row];
        if (share.is_triangle) {
          sums.add_triangle<Row>(lane_row, share.left, share.columns);
        } else {
          sums.add_rectangle<Row>(lane_row, share.left, share.columns, share.right);
        }
      }
      at = at == ring_stages - 1 ? 0 : at + 1;
    }
    wait_for_copies<0>();
    add_groups(sums, share, shared);
    if (share.group == 0) {
      const int lanes = slab_lanes(features.rows.columns);
      double* const slab = arguments.slabs + segment.slab * (double_sums * lanes) + share.index * warp_lanes + lane;
      sums.each(share, [&](int i, double& sum) { slab[i * lanes] = sum; });
    }
    synchronize_block();  // before the next segment fills the stages
  }
}

std::int64_t shared_bytes(const StageLayout& stage, std::int64_t columns) {
  const std::int64_t shifts = (wide_columns + narrow_columns) * 8;
  // Where several warps have the same products, their sums meet in the memory of the stages.
  const std::int64_t sums = (columns <= narrow_columns ? 1 : 2) * double_sums * warp_lanes * 8;
  const std::int64_t ring = ring_stages * stage.bytes;
  return (ring > sums ? ring : sums) + shifts;
}

}  // namespace

std::int64_t double_tensor_blocks(DType dtype, std::int64_t columns) {
  std::int64_t blocks = 0;
  with_row_type(dtype, [&](auto row) {
    blocks = resident_blocks(gram_double_tensor_kernel<decltype(row)>, "gram_double_tensor", ring_threads,
                             shared_bytes(stage_layout(dtype, columns, 8), columns));
  });
  return blocks;
}

void add_double_tensor_gram(const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream) {
  const MatrixView& view = rows.rows;
  const StageLayout stage = stage_layout(view.dtype, view.columns, 8);
  const DoubleTensorArguments arguments{rows, plan_for(GramMethod::tensor_float64, view.rows, view.columns, workers),
                                        slabs, stage, copy_kind(view)};
  with_row_type(view.dtype, [&](auto row) {
    launch(gram_double_tensor_kernel<decltype(row)>, "gram_double_tensor", {static_cast<unsigned>(workers)},
           ring_threads, shared_bytes(stage, view.columns), stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
