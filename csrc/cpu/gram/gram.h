// The Gram pass on the CPU: sums over rows, in one read.
#pragma once

#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"

namespace nrc_fast {

// With s the shift and t the target shift (null: zero), writes to the given float64 arrays
//   gram         d x d   gram_onto + lower triangle of sum (h - s)(h - s)^T
//   unit_gram    d x d   unit_gram_onto + the same of sum u u^T with u = x / ||x||, x = h, or h - s if
//                        unit_rows_are_shifted
// and adds to
//   column_sums  d       sum (h - s)
//   cross        n x d   sum (y - t)(h - s)^T
// Any output may be null; cross needs targets. What a Gram is put onto may be null, for zeros, and is a matrix of its
// own: the sum of many calls needs no pass of additions, and whoever is interrupted still has the old one.
// float64 rows are computed in float64; other rows in float32 blocks of a few hundred rows added up in float64, or in
// float64 throughout if `double_precision`.
// Nothing is written when a row of the features or targets is not finite: the counts say so.
struct GramRequest {
  Matrix features;
  const double* shift = nullptr;
  double* gram = nullptr;
  const double* gram_onto = nullptr;
  double* column_sums = nullptr;
  double* unit_gram = nullptr;
  const double* unit_gram_onto = nullptr;
  bool unit_rows_are_shifted = false;
  Matrix targets;
  const double* target_shift = nullptr;
  double* cross = nullptr;
  bool double_precision = false;
};

// What the rows were like, and the trace of the Gram that was asked for, without what it was put onto.
struct GramTotals {
  ReadCounts counts;
  double energy = 0.0;
};

GramTotals gram(const GramRequest& request);

// Rows of one float32 block, after which its sums are added to float64.
constexpr std::int64_t gram_block_rows = 256;

}  // namespace nrc_fast
