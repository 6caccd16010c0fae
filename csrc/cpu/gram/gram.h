// The Gram pass on the CPU: sums over rows, in one read.
#pragma once

#include "common/requests.h"
#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"
#include "cpu/target_sums/target_sums.h"

namespace nrc_fast {

// All sums are written, the Gram matrices onto what they are put onto: null, for zeros, or a matrix of its own, so that
// the sum of many calls needs no pass of additions, and whoever is interrupted still has the old one.
// float64 rows are computed in float64; other rows in float32 blocks of a few hundred rows added up in float64, or in
// float64 throughout if `double_precision`.
// Nothing is written when a row is not finite, but for the targets' own sums if it is one of the features: the counts
// say so.
struct GramRequest : GramFields<Matrix> {
  const double* gram_onto = nullptr;
  const double* unit_gram_onto = nullptr;
  bool double_precision = false;
  // Rests of the targets' own sums are null, or all that these lack of twice the digits; they are put onto what is
  // there, as the Gram matrices are.
  double* target_gram_rest = nullptr;
  double* target_sums_rest = nullptr;
  TargetSums<const double> targets_onto;

  bool has_long_targets() const { return target_gram_rest != nullptr; }
};

// What the rows of both were like, the traces of the Gram matrices that were asked for, without what they were put
// onto, and whether the column sums are finite.
struct GramCounts {
  ReadCounts features;
  ReadCounts targets;
  double energy = 0.0;
  double target_energy = 0.0;
  bool has_finite_sums = true;

  // Whether all rows could be read and are finite.
  bool are_usable() const { return nrc_fast::are_usable(features) && nrc_fast::are_usable(targets); }
};

GramCounts gram(const GramRequest& request);

// Rows of one float32 block, after which its sums are added to float64.
constexpr std::int64_t gram_block_rows = 256;

}  // namespace nrc_fast
