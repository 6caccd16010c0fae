// The Gram matrix in float64 of rows of more than 64 columns, by tensor cores, and in the same read what else is wanted
// of them, as in double_wide.cu: triangles of the plan see every column once, and their threads look at them; the
// rectangles beside them only multiply.
#include "cuda/gram/column_look.h"

namespace nrc_fast::cuda {
namespace {

constexpr int panel_columns = wide_columns + narrow_columns;
constexpr int panel_fold_rows = 512;

template <class Row, bool has_targets, bool sifts>
class PanelMoments {
  using Stage = LookedStage<Row, panel_columns>;
  static_assert(panel_fold_rows % Stage::depth == 0);

 public:
  NRC_FAST_DEVICE explicit PanelMoments(const LookedArguments& arguments)
      : arguments_(arguments),
        task_(arguments.task),
        shifts_(static_cast<double*>(static_cast<void*>(shared_memory() + ring_stages * arguments.stage_bytes))) {}

  template <bool is_triangle>
  NRC_FAST_DEVICE void add(const Segment& segment, const DoubleItem& item) {
    const DoubleShare share = double_share(item, thread_index() / warp_lanes);
    const std::int64_t first_row = segment.first_block * direct_block_rows;
    const std::int64_t end = segment.last_block * direct_block_rows;
    int rows_to_copy = static_cast<int>((end < task_.features.rows ? end : task_.features.rows) - first_row);
    int rows_to_add = rows_to_copy;
    const int padded = (item.columns + strip - 1) / strip * strip;
    SideCopies left = side_copies(task_.features, Stage::size, arguments_.copies, Stage::depth, first_row, item.left,
                                  item.columns, padded, 0, Stage::pitch);
    SideCopies right = side_copies(task_.features, Stage::size, arguments_.copies, Stage::depth, first_row, item.right,
                                   narrow_columns, narrow_columns, wide_columns * Stage::size, Stage::pitch);
    const int targets = has_targets ? static_cast<int>(task_.targets.columns) : 0;
    SideCopies target_side = side_copies(task_.targets, arguments_.target_size, CopyKind::elements, Stage::depth,
                                         first_row, 0, targets, targets, Stage::rows_bytes, arguments_.target_bytes);
    const auto copy_stage = [&](char* target) {
      const int rows = rows_to_copy < Stage::depth ? rows_to_copy : Stage::depth;
      copy_side<Stage::size>(left, arguments_.copies, task_.features.data, rows, target);
      if constexpr (!is_triangle) copy_side<Stage::size>(right, arguments_.copies, task_.features.data, rows, target);
      if constexpr (is_triangle && has_targets) {
        copy_targets(target_side, task_.targets.dtype, task_.targets.data, rows, target);
      }
      rows_to_copy -= rows;
    };
    for (int c = thread_index(); c < panel_columns; c += ring_threads) {
      const std::int64_t column = c < wide_columns ? item.left + c : item.right + c - wide_columns;
      shifts_[c] = column_shift<double>(task_.shift, column, task_.features.columns).high;
    }
    SharedColumnProducts products{0.0, shifts_ + panel_columns + double_warps * converted_targets};
    if constexpr (is_triangle) products.clear(targets);
    ColumnLook<Row, panel_columns, has_targets, SharedColumnProducts> look(arguments_, item.columns, first_row, shifts_,
                                                                           products);
    if constexpr (is_triangle && sifts) start_anew(look, targets, segment.slab);
    StageGaps<Stage, sifts> gaps(task_, first_row);
    sums_.clear();
#pragma unroll
    for (int s = 0; s < ring_stages - 1; ++s) {
      if (rows_to_copy > 0) copy_stage(shared_memory() + s * arguments_.stage_bytes);
      commit_copies();
    }
    int at = 0;  // the stage that is used, and behind it the one that is filled
#pragma unroll 1
    for (; rows_to_add > 0; rows_to_add -= Stage::depth) {
      wait_for_copies<ring_stages - 2>();
      synchronize_block();  // the stage has arrived for all threads, and all are done with the one before it
      if (rows_to_copy > 0) {
        copy_stage(shared_memory() + (at == 0 ? ring_stages - 1 : at - 1) * arguments_.stage_bytes);
      }
      commit_copies();
      const char* const current = shared_memory() + at * arguments_.stage_bytes;
      const std::uint32_t left_out = gaps.next(rows_to_add);
      if constexpr (is_triangle) {
        look.see(current, rows_to_add, left_out);
        if (look.is_at_multiple_of(panel_fold_rows)) fold(look, targets, segment.slab);
      }
      multiply<is_triangle>(share, current, rows_to_add, left_out);
      at = at == ring_stages - 1 ? 0 : at + 1;
    }
    wait_for_copies<0>();
    if constexpr (is_triangle) {
      look.finish();
      fold(look, targets, segment.slab);
    }
    // Worked out anew, and in no register before.
    const DoubleShare done = double_share(item, static_cast<int>(thread_index_again() / warp_lanes));
    add_groups(sums_, done, shared_memory());
    if (done.group == 0) {
      constexpr int lanes = double_warps * warp_lanes;
      double* const slab = arguments_.slabs + segment.slab * (double_sums * lanes) + done.index * warp_lanes +
                           thread_index() % warp_lanes;
      sums_.each(done, [&](int i, double& sum) { slab[i * lanes] = sum; });
    }
    synchronize_block();  // before the next segment fills the stages
  }

 private:
  NRC_FAST_DEVICE double* sums_of(std::int64_t slab, int targets) const {
    return task_.findings.sums + slab * (1 + targets) * wide_columns + thread_index();
  }
  template <class Look>
  NRC_FAST_DEVICE void fold(Look& look, int targets, std::int64_t slab) const {
    if (look.has_column()) look.products().fold(targets, sums_of(slab, targets));
  }
  // What all rows had left there.
  template <class Look>
  NRC_FAST_DEVICE void start_anew(const Look& look, int targets, std::int64_t slab) const {
    if (!look.has_column()) return;
    for (int t = 0; t <= targets; ++t) sums_of(slab, targets)[t * wide_columns] = 0.0;
  }

  template <bool is_triangle>
  NRC_FAST_DEVICE void multiply(const DoubleShare& share, const char* stage, int rows, std::uint32_t left_out) {
    const int lane = thread_index() % warp_lanes;
    LaneRow lane_row{
        stage + (share.group * step_rows + lane % step_rows) * Stage::pitch + lane / step_rows * Stage::size,
        shifts_ + lane / step_rows, 1.0, !sifts && task_.shift == nullptr};
#pragma unroll 1
    for (int k = share.group * step_rows; k < Stage::depth; k += share.groups * step_rows) {
      const int row = k + lane % step_rows;
      lane_row.factor = row < rows && (left_out >> row & 1u) == 0 ? 1.0 : 0.0;
      if (is_triangle && share.is_triangle) {
        sums_.add_triangle<Row>(lane_row, share.left, share.columns);
      } else {
        sums_.add_rectangle<Row>(lane_row, share.left, share.columns, share.right);
      }
      lane_row.values += share.groups * step_rows * Stage::pitch;
    }
  }

  const LookedArguments& arguments_;
  const WideMomentTask& task_;
  double* shifts_;
  DoubleSums sums_;
};

template <class Row, bool has_targets, bool sifts>
NRC_FAST_GLOBAL(ring_threads, 2)
gram_panel_moments_kernel(LookedArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();  // the launches never come here
  } else {
    if (sifts && are_usable(arguments.task.counts)) return;
    PanelMoments<Row, has_targets, sifts> moments(arguments);
    Segment segment{};
    for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
      if (segment.first_block == segment.last_block) continue;
      const DoubleItem item = double_item(segment.tile, arguments.task.features.columns);
      if (item.is_triangle) {
        moments.template add<true>(segment, item);
      } else {
        moments.template add<false>(segment, item);
      }
    }
  }
}

template <class Row>
std::int64_t shared_bytes(const WideMomentTask& task) {
  const std::int64_t numbers = panel_columns + double_warps * converted_targets + task.targets.columns * wide_columns;
  const std::int64_t ring = ring_stages * looked_stage_bytes<Row, panel_columns>(task.targets);
  // Sums of warps with the same products meet in the memory of the stages.
  static_assert(ring_stages * LookedStage<Row, panel_columns>::rows_bytes >= 2 * double_sums * warp_lanes * 8);
  return ring + numbers * 8;
}

template <class Use>
void with_panel_kernel(const WideMomentTask& task, const Use& use) {
  with_row_type(task.features.dtype, [&](auto row) {
    using Row = decltype(row);
    if (task.left_out != nullptr) return use(row, gram_panel_moments_kernel<Row, true, true>);
    task.targets.columns > 0 ? use(row, gram_panel_moments_kernel<Row, true, false>)
                             : use(row, gram_panel_moments_kernel<Row, false, false>);
  });
}

constexpr int sum_threads = 128;

struct PanelSumTask {
  WorkPlan plan;
  const double* partial;
  std::int64_t columns;
  std::int64_t targets;
  const RowCounts* guard;
  double* column_sums;
  double* cross;
};

// Sums of the slabs of each triangle, in the order of their rows.
NRC_FAST_GLOBAL(sum_threads, 2)
gram_panel_sums_kernel(PanelSumTask task) {
  if (!are_usable(task.guard)) return;
  const std::int64_t size = (1 + task.targets) * task.columns;
  for (std::int64_t index = block_index() * sum_threads + thread_index(); index < size;
       index += grid_size() * sum_threads) {
    const std::int64_t unit = index / task.columns;
    const std::int64_t column = index % task.columns;
    double* const target = unit == 0 ? task.column_sums : task.cross;
    if (target == nullptr) continue;
    const std::int64_t panel = column / wide_columns;
    const double* const place = task.partial + unit * wide_columns + column % wide_columns;
    double sum = 0.0;
    SlabWalk walk(task.plan, triangle_item(panel));
    SlabRun run{};
    while (walk.next(run)) {
      for (std::int64_t i = 0; i < run.count; ++i) {
        if (run.has_blocks(task.plan, i)) sum += place[run.slab(i) * (1 + task.targets) * wide_columns];
      }
    }
    target[index - (unit == 0 ? 0 : task.columns)] += sum;
  }
}

}  // namespace

std::int64_t panel_moment_blocks(const WideMomentTask& task) {
  std::int64_t blocks = 0;
  with_panel_kernel(task, [&](auto row, auto kernel) {
    blocks = resident_blocks(kernel, "gram_panel_moments", ring_threads, shared_bytes<decltype(row)>(task));
  });
  return blocks;
}

void form_panel_moments(const WideMomentTask& task, std::int64_t workers, double* slabs, Stream stream) {
  with_panel_kernel(task, [&](auto row, auto kernel) {
    using Row = decltype(row);
    launch(kernel, "gram_panel_moments", {static_cast<unsigned>(workers)}, ring_threads, shared_bytes<Row>(task),
           stream, looked_arguments<Row, panel_columns>(task, workers, slabs));
  });
}

void add_panel_sums(const WideMomentTask& task, std::int64_t workers, const RowCounts* guard, double* column_sums,
                    double* cross, Stream stream) {
  const MatrixView& rows = task.features;
  const PanelSumTask sums{plan_for(GramMethod::tensor_float64, rows.rows, rows.columns, workers),
                          task.findings.sums,
                          rows.columns,
                          task.targets.columns,
                          guard,
                          column_sums,
                          cross};
  const std::int64_t blocks = ceiling((1 + task.targets.columns) * rows.columns, sum_threads);
  launch(gram_panel_sums_kernel, "gram_panel_sums", {static_cast<unsigned>(blocks < 65536 ? blocks : 65536)},
         sum_threads, 0, stream, sums);
}

}  // namespace nrc_fast::cuda
