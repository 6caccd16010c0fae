// Norms of rows, and which rows are zero or not finite: one warp for each row.
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {
namespace {

constexpr int norm_threads = 256;
constexpr int rows_at_once = norm_threads / warp_lanes;
constexpr int loads_at_once = 8;

NRC_FAST_DEVICE double shift_of(const double* shift, std::int64_t column) {
  return shift == nullptr ? 0.0 : shift[column];
}

// Calls `use(value, column)` for the numbers of a row that are a lane's: many loads first, none of them in a branch.
template <class Row, class Use>
NRC_FAST_DEVICE void for_numbers(const MatrixView& rows, std::int64_t row, int lane, const Use& use) {
  for (std::int64_t first = lane; first < rows.columns; first += loads_at_once * warp_lanes) {
    Row stored[loads_at_once];
#pragma unroll
    for (int i = 0; i < loads_at_once; ++i) {
      const std::int64_t column = first + i * warp_lanes;
      stored[i] = stored_value<Row>(rows, row, column < rows.columns ? column : first);
    }
#pragma unroll
    for (int i = 0; i < loads_at_once; ++i) {
      const std::int64_t column = first + i * warp_lanes;
      if (column < rows.columns) use(as_double(stored[i]), column);
    }
  }
}

template <class Row, class Target>
NRC_FAST_GLOBAL(norm_threads, 2)
row_norms_kernel(RowNormTask task) {
  const int lane = thread_index() % warp_lanes;
  const std::int64_t step = grid_size() * rows_at_once;
  for (std::int64_t row = block_index() * rows_at_once + thread_index() / warp_lanes; row < task.features.rows;
       row += step) {
    if (task.only != nullptr && task.only[row] == 0.0) continue;
    RowFindings<Row> found;
    RowFindings<Target> found_target;
    for_numbers<Row>(task.features, row, lane, [&](double stored, std::int64_t column) {
      found.see(stored);
      if (task.findings != nullptr) found.measure(stored - shift_of(task.shift, column));
      if (task.inverse_norms != nullptr) found.energy.add(stored - shift_of(task.norm_shift, column));
    });
    for_numbers<Target>(task.targets, row, lane, [&](double stored, std::int64_t column) {
      found_target.see(stored);
      found_target.measure(stored - shift_of(task.target_shift, column));
    });
    found.join_warp();
    found_target.join_warp();
    if (lane != 0) continue;
    const bool is_bad = found.bad != 0.0 || found_target.bad != 0.0;
    if (task.masks.bad != nullptr) {
      if (is_bad) set_bits(task.masks.bad + row / 32, 1u << (row % 32));
      if (task.kept != nullptr) task.kept[row] = is_bad ? 0.0 : 1.0;
      if (task.findings != nullptr) keep_exponent(&task.findings->target_below, found_target.largest);
      continue;
    }
    const bool is_left_out = task.kept != nullptr && is_bad;
    if (task.kept != nullptr) task.kept[row] = is_left_out ? 0.0 : 1.0;
    if (task.inverse_norms != nullptr) task.inverse_norms[row] = is_left_out ? 0.0 : found.energy.inverse_norm();
    if (found.filled == 0.0 && !is_left_out) count_more(&task.counts->zero, 1);
    if (is_bad) {
      count_more(&task.counts->nonfinite, 1);
      keep_smallest(&task.counts->first_nonfinite, row);
    } else if (task.findings != nullptr) {
      keep_exponent(&task.findings->below, found.largest);
      keep_exponent(&task.findings->target_below, found_target.largest);
    }
  }
}

struct SettleArguments {
  Findings* findings;
  DeviceTotals* totals;
  std::int64_t rows;
  bool skips;
};

NRC_FAST_GLOBAL(warp_lanes, 1)
begin_findings_kernel(SettleArguments arguments) {
  if (thread_index() != 0) return;
  *arguments.findings = {{}, -1, -1, -1, {}, {}, {}, 1.0, 1.0};
}

NRC_FAST_DEVICE std::int64_t exponent_of(std::int64_t below) { return below < 0 ? 0 : 2047 - below; }

NRC_FAST_DEVICE std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// As keep_exponent keeps them.
NRC_FAST_DEVICE std::int64_t smallest(std::int64_t a, std::int64_t b) {
  return static_cast<std::uint64_t>(a) < static_cast<std::uint64_t>(b) ? a : b;
}

// Of the largest number: sums of squares of a slab's worth of rows stay in the range of float32, and products that
// underflow are too small to count beside its square.
constexpr std::int64_t smallest_near_exponent = 1023 - 30;
constexpr std::int64_t largest_near_exponent = 1023 + 50;

NRC_FAST_GLOBAL(warp_lanes, 1)
settle_findings_kernel(SettleArguments arguments) {
  if (thread_index() != 0) return;
  Findings& findings = *arguments.findings;
  DeviceTotals& totals = *arguments.totals;
  // Where rows are left out, the largest number of those that are kept was found in a second read.
  const std::int64_t below =
      findings.counts.nonfinite > 0 ? findings.below : smallest(findings.below, findings.whole_below);
  const std::int64_t exponent = exponent_of(below);
  const std::int64_t target_exponent = exponent_of(findings.target_below);
  const std::int64_t batch = totals.batches++;
  const bool is_too_large = exponent > largest_exponent || target_exponent > largest_exponent;
  if (is_too_large || (findings.counts.nonfinite > 0 && !arguments.skips)) {
    findings.guard.nonfinite = 1;
    findings.near_guard.nonfinite = 1;
    findings.far_guard.nonfinite = 1;
    if (totals.refused++ > 0) return;
    totals.refused_batch = batch;
    totals.refused_rows = arguments.rows;
    totals.refused_nonfinite = arguments.skips ? 0 : findings.counts.nonfinite;
    totals.refused_first = findings.counts.first_nonfinite;
    totals.refused_by_targets = exponent > largest_exponent ? 0 : 1;
    return;
  }
  const bool is_near = below < 0 || (exponent >= smallest_near_exponent && exponent <= largest_near_exponent);
  findings.near_guard.nonfinite = is_near ? 0 : 1;
  findings.far_guard.nonfinite = is_near ? 1 : 0;
  // Further out squares of the scale itself would leave the range; float32 numbers never are.
  if (below >= 0 && exponent > 1023 - 500 && exponent < 1023 + 500) {
    findings.scale = power_of_two(1023 - exponent);
    findings.inverse_square = power_of_two(2 * (exponent - 1023));
  }
  const std::int64_t added = arguments.rows - findings.counts.nonfinite;
  totals.rows += added;
  totals.zero += findings.counts.zero;
  totals.skipped += findings.counts.nonfinite;
  totals.added += added > 0 ? 1 : 0;
  totals.blocks += ceiling(added, total_block_rows);
  totals.exponent = larger(totals.exponent, exponent);
  totals.target_exponent = larger(totals.target_exponent, target_exponent);
}

}  // namespace

void row_norms(const RowNormTask& task, Stream stream) {
  if (task.features.rows == 0) return;
  const std::int64_t wanted = ceiling(task.features.rows, rows_at_once);
  const auto blocks = static_cast<unsigned>(wanted < 65536 ? wanted : 65536);
  with_row_type(task.features.dtype, [&](auto row) {
    with_row_type(task.targets.dtype, [&](auto target) {
      launch(row_norms_kernel<decltype(row), decltype(target)>, "row_norms", {blocks}, norm_threads, 0, stream, task);
    });
  });
}

void begin_findings(Findings* findings, Stream stream) {
  const SettleArguments arguments{findings, nullptr, 0, false};
  launch(begin_findings_kernel, "begin_findings", {1}, warp_lanes, 0, stream, arguments);
}

void settle_findings(Findings* findings, DeviceTotals* totals, std::int64_t rows, bool skips, Stream stream) {
  const SettleArguments arguments{findings, totals, rows, skips};
  launch(settle_findings_kernel, "settle_findings", {1}, warp_lanes, 0, stream, arguments);
}

}  // namespace nrc_fast::cuda
