// The residual pass on the CPU: rows held against a few orthonormal vectors and a linear model, in one read for all.
#pragma once

#include <vector>

#include "common/requests.h"
#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"

namespace nrc_fast {

// The errors of W h + b, with as many rows of weights as the targets have columns.
struct Prediction : PredictionError {
  const double* weights = nullptr;  // null: no errors are wanted
};

// A basis, and what is wanted of its rows beside sums of squares, in float64 only; what is null is not. U are its
// leading `imaged` vectors.
//   raw_image   (1 + imaged) x d  += sum of x, and for each vector u sum of (u x) x
//   unit_image  imaged x d        += sum of (u x) x / |x|^2; a zero row adds 0
//   shift_sums  2 d + 3           += sum of x / |x|^2, sum of f x / |x|^2 with f = |x - U^T U x|^2 / |x|^2, sums of
//                                 1 / |x|^2 and 1 / |x|^4, all without zero rows, and the number of these
struct BasisJob : ResidualJob {
  std::int64_t imaged = 0;
  double* raw_image = nullptr;
  double* unit_image = nullptr;
  double* shift_sums = nullptr;

  bool wants_images() const { return raw_image != nullptr || unit_image != nullptr || shift_sums != nullptr; }
};

struct ResidualRequest {
  Matrix features;
  std::vector<BasisJob> jobs;
  bool double_precision = false;
  Prediction prediction;
};

// float64 rows are computed in float64, other rows in float32 unless `double_precision`, which a prediction and images
// need. No sum changes when a row is not finite.
ReadCounts residual(const ResidualRequest& request);

}  // namespace nrc_fast
