// The Gram pass on the CPU: sums over rows, in one read.
#pragma once

#include "common/matrix.h"

namespace nrc_fast {

// With s the shift and t the target shift (null: zero), adds to the given float64 arrays
//   gram         d x d, lower triangle   sum (h - s)(h - s)^T
//   column_sums  d                       sum (h - s)
//   unit_gram    d x d, lower triangle   sum u u^T with u = x / ||x||, x = h, or h - s if unit_rows_are_shifted
//   cross        n x d                   sum (y - t)(h - s)^T
// Any output may be null; cross needs targets. float64 rows are computed in float64; other rows in float32 blocks
// of a few hundred rows added up in float64, or in float64 throughout if `double_precision`.
// Nothing is added when a row of the features or targets is not finite: the counts say so.
struct GramRequest {
  Matrix features;
  const double* shift = nullptr;
  double* gram = nullptr;
  double* column_sums = nullptr;
  double* unit_gram = nullptr;
  bool unit_rows_are_shifted = false;
  Matrix targets;
  const double* target_shift = nullptr;
  double* cross = nullptr;
  bool double_precision = false;
};

RowCounts gram(const GramRequest& request);

// Rows of one float32 block, after which its sums are added to float64.
constexpr std::int64_t gram_block_rows = 256;

}  // namespace nrc_fast
