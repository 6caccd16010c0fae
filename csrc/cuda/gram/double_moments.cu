// All moments of rows of at most 64 columns in float64, by tensor cores, in one read of them: the Gram matrix, sums,
// products with up to seven targets and those of the targets, and of each row its norm and whether it is zero or not
// finite. A lane has every eighth number of a row in registers, so that eight lanes know the row before its products
// are formed; wider rows are known to no warp, and are read before where something of the whole row is needed.
#include "cuda/gram/column_products.h"
#include "cuda/gram/double_sums.h"
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {
namespace {

struct MomentArguments {
  RowNormTask task;
  WorkPlan plan;
  double* slabs;
  StageLayout stage;
  CopyKind copies;
};

struct MomentSums {
  static constexpr int count = moment_sums;

  double products[moment_products][4];
  double corners[2][2];
  double extras[2][4];
  double extra_corner[2];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < moment_products * 4; ++i) products[i / 4][i % 4] = 0.0;
#pragma unroll
    for (int i = 0; i < 2 * 2; ++i) corners[i / 2][i % 2] = 0.0;
#pragma unroll
    for (int i = 0; i < 2 * 4; ++i) extras[i / 4][i % 4] = 0.0;
    extra_corner[0] = 0.0;
    extra_corner[1] = 0.0;
  }
  template <int share>
  NRC_FAST_DEVICE void add_share(const double* values, double extra, int columns) {
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      const int i = moment_strip(share, which);
      if (i * strip >= columns) break;
      const double* const left = values + 2 * i;
      const int first = which == 0 ? 0 : 2 * moment_strip(share, 0) + 1;
#pragma unroll
      for (int j = 0; j < 2 * i + 1; ++j) multiply_add(products[first + j], left[0], left[1], values[j]);
      multiply_add(corners[which], left[1], left[1]);
      multiply_add(extras[which], left[0], left[1], extra);
    }
    if constexpr (share == 0) multiply_add(extra_corner, extra, extra);
  }
  NRC_FAST_DEVICE void add(int share, const double* values, double extra, int columns) {
    if (share == 0) {
      add_share<0>(values, extra, columns);
    } else {
      add_share<1>(values, extra, columns);
    }
  }
  // Calls `use(index, sum)` for all sums, in the order of the slab.
  template <class Use>
  NRC_FAST_DEVICE void each(const DoubleShare&, const Use& use) {
    int index = 0;
#pragma unroll
    for (int i = 0; i < moment_products * 4; ++i) use(index++, products[i / 4][i % 4]);
#pragma unroll
    for (int i = 0; i < 2 * 2; ++i) use(index++, corners[i / 2][i % 2]);
#pragma unroll
    for (int i = 0; i < 2 * 4; ++i) use(index++, extras[i / 4][i % 4]);
    use(index++, extra_corner[0]);
    use(index, extra_corner[1]);
  }
};

// ---- eight lanes have one row, those whose numbers differ by multiples of four ----

NRC_FAST_DEVICE std::uint32_t row_bits(std::uint32_t bits) {
#pragma unroll
  for (int mask = step_rows; mask < warp_lanes; mask *= 2) bits |= shuffle_xor(bits, mask);
  return bits;
}
NRC_FAST_DEVICE double row_sum(double value) {
#pragma unroll
  for (int mask = step_rows; mask < warp_lanes; mask *= 2) value += shuffle_xor(value, mask);
  return value;
}
NRC_FAST_DEVICE void join_row(RowEnergy<false>& energy) { energy.sum = row_sum(energy.sum); }
NRC_FAST_DEVICE void join_row(RowEnergy<true>& energy) {
  energy.small = row_sum(energy.small);
  energy.usual = row_sum(energy.usual);
  energy.large = row_sum(energy.large);
}

constexpr std::uint32_t filled_bit = 1;
constexpr std::uint32_t bad_bit = 2;

// The largest magnitudes of the rows that a warp has seen, as upper halves.
struct Largest {
  std::uint32_t feature = 0;  // |h - shift|
  std::uint32_t target = 0;

  NRC_FAST_DEVICE void keep(Findings* findings) const {
    const double size = warp_maximum(from_upper_half(feature));
    const double target_size = warp_maximum(from_upper_half(target));
    if (thread_index() % warp_lanes != 0) return;
    keep_exponent(&findings->below, size);
    keep_exponent(&findings->target_below, target_size);
  }
};

// What a lane knows while it works.
struct LaneColumns {
  const double* shifts;  // from its first column on; null: none
  double target_shift;
  int extra;  // its extra column
};

// What is to be known of a row before its products are formed, and what both warps of a pair find alike.
template <class Row>
struct RowLook {
  std::uint32_t bits = 0;
  RowEnergy<sizeof(Row) == 8> energy;

  NRC_FAST_DEVICE bool is_bad() const { return (bits & bad_bit) != 0; }

  NRC_FAST_DEVICE void see(const double (&values)[8], double target) {
    std::uint32_t any = 0;
    std::uint32_t top = upper_half(target);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      DoubleBits stored;
      stored.value = values[i];
      any |= upper_half(values[i]) | static_cast<std::uint32_t>(stored.bits);
      top = larger(top, upper_half(values[i]));
    }
    bits = row_bits((any != 0 ? filled_bit : 0) | (top >= nonfinite_half ? bad_bit : 0));
  }
  NRC_FAST_DEVICE void measure(const double (&values)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) energy.add(values[i]);
    join_row(energy);
  }
  // One lane of the row calls.
  NRC_FAST_DEVICE void write(const RowNormTask& task, std::int64_t row) const {
    const bool is_left_out = is_bad() && task.kept != nullptr;
    if (task.inverse_norms != nullptr) task.inverse_norms[row] = is_left_out ? 0.0 : energy.inverse_norm();
    if (task.kept != nullptr) task.kept[row] = is_left_out ? 0.0 : 1.0;
    if ((bits & filled_bit) == 0 && !is_left_out) count_more(&task.counts->zero, 1);
    if (!is_bad()) return;
    count_more(&task.counts->nonfinite, 1);
    keep_smallest(&task.counts->first_nonfinite, row);
  }
};

// Looks at a row, shifts it, and leaves it out where that is wanted. Of the two warps that have the row one, which
// `tells`, says what it has found.
template <class Row>
NRC_FAST_DEVICE void examine(const RowNormTask& task, const LaneColumns& lane, std::int64_t row, bool is_row,
                             bool tells, double (&values)[8], double& extra, Largest& largest) {
  const bool is_target = lane.extra < task.targets.columns;
  RowLook<Row> look;
  if (tells || task.kept != nullptr) look.see(values, is_target ? extra : 0.0);
  const bool measures = tells && task.inverse_norms != nullptr;
  if (measures && task.norm_shift == nullptr) look.measure(values);
  if (lane.shifts != nullptr) {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = is_row ? values[i] - lane.shifts[i * 8] : 0.0;
  }
  if (is_target && is_row) extra -= lane.target_shift;
  if (measures && task.norm_shift != nullptr) look.measure(values);
  if (tells && !look.is_bad()) {
#pragma unroll
    for (int i = 0; i < 8; ++i) largest.feature = larger(largest.feature, upper_half(values[i]));
    if (is_target) largest.target = larger(largest.target, upper_half(extra));
  }
  if (tells && is_row && lane.extra == 0) look.write(task, row);
  if (task.kept != nullptr && look.is_bad()) {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = 0.0;
    extra = 0.0;
  }
}

template <class Row>
NRC_FAST_GLOBAL(ring_threads, 2)
gram_moments_kernel(MomentArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();  // the launches never come here
    return;
  }
  constexpr int size = sizeof(Row);
  const RowNormTask& task = arguments.task;
  const StageLayout& stage = arguments.stage;
  char* const shared = shared_memory();
  double* const shifts = static_cast<double*>(static_cast<void*>(shared + ring_stages * stage.bytes));
  const int lane = thread_index() % warp_lanes;
  Segment segment{};
  if (!find_segment(arguments.plan, block_index(), 0, segment)) return;
  if (segment.first_block == segment.last_block) return;
  const auto columns = static_cast<int>(task.features.columns);
  const auto targets = static_cast<int>(task.targets.columns);
  const int warp = thread_index() / warp_lanes;
  const DoubleShare share{warp / 2, warp % 2, 2, 0, 0, columns, true};
  const std::int64_t first_row = segment.first_block * direct_block_rows;
  const std::int64_t end = segment.last_block * direct_block_rows;
  std::int64_t rows_to_copy = (end < task.features.rows ? end : task.features.rows) - first_row;
  const std::int64_t last_row = first_row + rows_to_copy;
  SideCopies side = side_copies(task.features, size, arguments.copies, stage.depth, first_row, 0, columns,
                                (columns + strip - 1) / strip * strip, 0, stage.pitch);
  const int target_size = targets == 0 ? 1 : stage.row_tail / targets;
  SideCopies target_side = side_copies(task.targets, target_size, CopyKind::elements, stage.depth, first_row, 0,
                                       targets, targets, stage.depth * stage.pitch, stage.row_tail);
  const auto copy_stage = [&](char* target) {
    const int rows = static_cast<int>(rows_to_copy < stage.depth ? rows_to_copy : stage.depth);
    copy_side<size>(side, arguments.copies, task.features.data, rows, target);
    if (targets > 0) copy_targets(target_side, task.targets.dtype, task.targets.data, rows, target);
    rows_to_copy -= rows;
  };
  if (thread_index() < narrow_columns) {
    shifts[thread_index()] = column_shift<double>(task.shift, thread_index(), columns).high;
  }
  LaneColumns lane_columns{task.shift == nullptr ? nullptr : shifts + lane / step_rows, 0.0, lane / step_rows};
  if (task.target_shift != nullptr && lane_columns.extra < targets) {
    lane_columns.target_shift = task.target_shift[lane_columns.extra];
  }
  MomentSums sums;
  sums.clear();
  Largest largest;
#pragma unroll
  for (int s = 0; s < ring_stages - 1; ++s) {
    if (rows_to_copy > 0) copy_stage(shared + s * stage.bytes);
    commit_copies();
  }
  int at = 0;  // the stage that is used, and behind it the one that is filled
  for (std::int64_t stage_row = first_row; stage_row < last_row; stage_row += stage.depth) {
    wait_for_copies<ring_stages - 2>();
    synchronize_block();  // the stage has arrived for all threads, and all are done with the one before it
    if (rows_to_copy > 0) copy_stage(shared + (at == 0 ? ring_stages - 1 : at - 1) * stage.bytes);
    commit_copies();
    const char* const current = shared + at * stage.bytes;
    for (int k = share.group * step_rows; k < stage.depth; k += share.groups * step_rows) {
      const int place = k + lane % step_rows;
      const std::int64_t row = stage_row + place;
      const bool is_row = row < last_row;
      double values[8];
      read_strips<Row>(current + place * stage.pitch + lane / step_rows * size, columns, values);
      double extra = lane_columns.extra == targets && is_row ? 1.0 : 0.0;
      if (lane_columns.extra < targets) {
        extra = target_value(task.targets.dtype, current + stage.depth * stage.pitch + place * stage.row_tail +
                                                     lane_columns.extra * target_size);
      }
      const bool tells = k / (share.groups * step_rows) % 2 == share.index;
      examine<Row>(task, lane_columns, row, is_row, tells, values, extra, largest);
      sums.add(share.index, values, extra, columns);
    }
    at = at == ring_stages - 1 ? 0 : at + 1;
  }
  wait_for_copies<0>();
  if (task.findings != nullptr) largest.keep(task.findings);
  add_groups(sums, share, shared);
  if (share.group > 0) return;
  double* const slab = arguments.slabs + segment.slab * moment_values + share.index * warp_lanes + lane;
  sums.each(share, [&](int i, double& sum) { slab[i * moment_lanes] = sum; });
}

StageLayout moment_stage(const MatrixView& features, const MatrixView& targets) {
  return stage_layout(features.dtype, features.columns, static_cast<int>(targets.columns * size_of(targets.dtype)));
}

std::int64_t shared_bytes(const StageLayout& stage) {
  const std::int64_t sums = moment_values * 8;
  const std::int64_t ring = ring_stages * stage.bytes;
  return (ring > sums ? ring : sums) + narrow_columns * 8;
}

}  // namespace

bool can_form_moments(const MatrixView& features, const MatrixView& targets) {
  return features.columns <= narrow_columns && targets.columns < extra_columns;
}

std::int64_t moment_blocks(const MatrixView& features, const MatrixView& targets) {
  std::int64_t blocks = 0;
  with_row_type(features.dtype, [&](auto row) {
    blocks = resident_blocks(gram_moments_kernel<decltype(row)>, "gram_moments", ring_threads,
                             shared_bytes(moment_stage(features, targets)));
  });
  return blocks;
}

void form_moments(const RowNormTask& task, std::int64_t workers, double* slabs, Stream stream) {
  const StageLayout stage = moment_stage(task.features, task.targets);
  const MomentArguments arguments{
      task, plan_for(GramMethod::tensor_float64, task.features.rows, task.features.columns, workers), slabs, stage,
      copy_kind(task.features)};
  with_row_type(task.features.dtype, [&](auto row) {
    launch(gram_moments_kernel<decltype(row)>, "gram_moments", {static_cast<unsigned>(workers)}, ring_threads,
           shared_bytes(stage), stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
