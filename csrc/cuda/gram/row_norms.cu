// Norms of rows, and which rows are zero or not finite: one warp for each row.
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {
namespace {

constexpr int norm_threads = 256;
constexpr int rows_at_once = norm_threads / warp_lanes;
// Biased, of the largest numbers whose squares are added up: about 1e75.
constexpr std::int64_t largest_exponent = 1023 + 249;

NRC_FAST_DEVICE double warp_sum(double value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

NRC_FAST_DEVICE double warp_maximum(double value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) {
    const double other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

union DoubleBits {
  std::uint64_t bits;
  double value;
};

// A power of two that brings the largest of some numbers close to 1, so that their squares neither over- nor underflow.
NRC_FAST_DEVICE double normal_scale(double largest) {
  DoubleBits bits;
  bits.value = largest;
  int exponent = static_cast<int>(bits.bits >> 52 & 0x7ff) - 1023;
  exponent = exponent < -1000 ? -1000 : (exponent > 1000 ? 1000 : exponent);
  bits.bits = static_cast<std::uint64_t>(1023 - exponent) << 52;
  return bits.value;
}

NRC_FAST_DEVICE double magnitude(double value) { return value < 0.0 ? -value : value; }

template <class Row>
NRC_FAST_DEVICE double difference(const MatrixView& rows, const double* shift, std::int64_t row, std::int64_t column) {
  const double value = as_double(stored_value<Row>(rows, row, column));
  return shift == nullptr ? value : value - shift[column];
}

// The largest magnitude that all rows of a warp have seen so far; one of its lanes calls.
NRC_FAST_DEVICE void keep_exponent(std::int64_t* below, double largest) {
  if (largest == 0.0) return;
  DoubleBits bits;
  bits.value = largest;
  const auto found = static_cast<std::int64_t>(2047 - (bits.bits >> 52 & 0x7ff));
  // Most rows change nothing: they only look.
  if (static_cast<std::uint64_t>(found) < static_cast<std::uint64_t>(look_at(below))) keep_smallest(below, found);
}

template <class Row, class Target>
NRC_FAST_GLOBAL(norm_threads, 2)
row_norms_kernel(RowNormTask task) {
  const int lane = thread_index() % warp_lanes;
  const std::int64_t step = grid_size() * rows_at_once;
  for (std::int64_t row = block_index() * rows_at_once + thread_index() / warp_lanes; row < task.features.rows;
       row += step) {
    double scale = 1.0;
    if constexpr (sizeof(Row) == 8) {
      // Squares of narrower rows stay in the range of float64.
      double largest = 0.0;
      for (std::int64_t c = lane; c < task.features.columns; c += warp_lanes) {
        const double value = magnitude(difference<Row>(task.features, task.norm_shift, row, c));
        largest = value > largest ? value : largest;
      }
      scale = normal_scale(warp_maximum(largest));
    }
    double energy = 0.0;
    double bad = 0.0;     // not 0 where a value is not finite
    double filled = 0.0;  // not 0 where a value is not 0
    double largest = 0.0;
    double largest_target = 0.0;
    for (std::int64_t c = lane; c < task.features.columns; c += warp_lanes) {
      const double stored = as_double(stored_value<Row>(task.features, row, c));
      if (!is_finite(stored)) bad = 1.0;
      if (stored != 0.0) filled = 1.0;
      const double value = difference<Row>(task.features, task.norm_shift, row, c) * scale;
      energy += value * value;
      if (task.findings == nullptr) continue;
      const double size = magnitude(difference<Row>(task.features, task.shift, row, c));
      largest = size > largest ? size : largest;
    }
    for (std::int64_t c = lane; c < task.targets.columns; c += warp_lanes) {
      if (!is_finite(as_double(stored_value<Target>(task.targets, row, c)))) bad = 1.0;
      const double size = magnitude(difference<Target>(task.targets, task.target_shift, row, c));
      largest_target = size > largest_target ? size : largest_target;
    }
    energy = warp_sum(energy);
    bad = warp_maximum(bad);
    filled = warp_maximum(filled);
    largest = warp_maximum(largest);
    largest_target = warp_maximum(largest_target);
    if (lane != 0) continue;
    const bool is_left_out = task.kept != nullptr && bad != 0.0;
    if (task.kept != nullptr) task.kept[row] = is_left_out ? 0.0 : 1.0;
    if (task.inverse_norms != nullptr) {
      task.inverse_norms[row] = energy > 0.0 && !is_left_out ? scale / sqrt(energy) : 0.0;
    }
    if (filled == 0.0 && !is_left_out) count_more(&task.counts->zero, 1);
    if (bad != 0.0) {
      count_more(&task.counts->nonfinite, 1);
      keep_smallest(&task.counts->first_nonfinite, row);
    } else if (task.findings != nullptr) {
      keep_exponent(&task.findings->below, largest);
      keep_exponent(&task.findings->target_below, largest_target);
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
  *arguments.findings = {{}, -1, -1, {}, 1.0, 1.0};
}

NRC_FAST_DEVICE std::int64_t exponent_of(std::int64_t below) { return below < 0 ? 0 : 2047 - below; }

NRC_FAST_DEVICE std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

NRC_FAST_DEVICE double power_of_two(std::int64_t exponent) {
  DoubleBits bits;
  bits.bits = static_cast<std::uint64_t>(1023 + exponent) << 52;
  return bits.value;
}

NRC_FAST_GLOBAL(warp_lanes, 1)
settle_findings_kernel(SettleArguments arguments) {
  if (thread_index() != 0) return;
  Findings& findings = *arguments.findings;
  DeviceTotals& totals = *arguments.totals;
  const std::int64_t exponent = exponent_of(findings.below);
  const std::int64_t target_exponent = exponent_of(findings.target_below);
  const std::int64_t batch = totals.batches++;
  const bool is_too_large = exponent > largest_exponent || target_exponent > largest_exponent;
  if (is_too_large || (findings.counts.nonfinite > 0 && !arguments.skips)) {
    findings.guard.nonfinite = 1;
    if (totals.refused++ > 0) return;
    totals.refused_batch = batch;
    totals.refused_rows = arguments.rows;
    totals.refused_nonfinite = arguments.skips ? 0 : findings.counts.nonfinite;
    totals.refused_first = findings.counts.first_nonfinite;
    totals.refused_by_targets = exponent > largest_exponent ? 0 : 1;
    return;
  }
  // Further out squares of the scale itself would leave the range; float32 numbers never are.
  if (findings.below >= 0 && exponent > 1023 - 500 && exponent < 1023 + 500) {
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
