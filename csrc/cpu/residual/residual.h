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

struct ResidualRequest {
  Matrix features;
  std::vector<ResidualJob> jobs;
  bool double_precision = false;
  Prediction prediction;
};

// float64 rows are computed in float64, other rows in float32 unless `double_precision`, which a prediction needs. No
// sum changes when a row is not finite.
ReadCounts residual(const ResidualRequest& request);

}  // namespace nrc_fast
