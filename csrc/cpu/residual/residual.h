// Passes that hold rows against a few vectors: the projection residual, one step of subspace iteration and the
// error of a linear prediction. Each reads the rows once.
#pragma once

#include <vector>

#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"

namespace nrc_fast {

// One basis of a residual pass: U is k x d with orthonormal rows, x = h - shift (null: zero).
// Adds, for every j = 0..k with the leading j vectors, to float64 arrays of k + 1 numbers
//   raw_sums[j]   sum over rows of ||x - U_j^T U_j x||^2
//   unit_sums[j]  the same of x / ||x||; a zero row adds 0
// and writes, where not null, ||x - U^T U x||^2 and ||x||^2 of each row.
struct ResidualJob {
  const double* basis = nullptr;
  std::int64_t vectors = 0;
  const double* shift = nullptr;
  double* raw_sums = nullptr;
  double* unit_sums = nullptr;
  double* row_residuals = nullptr;
  double* row_energies = nullptr;
};

// The residual is the expanded form ||x||^2 - ||c||^2, c = U x, or where that cancels the norm of x - U^T c.
// Leading parts follow without cancellation, by adding squares of the trailing coefficients.
ReadCounts residual(const Matrix& features, const std::vector<ResidualJob>& jobs, bool double_precision);

// In float64, with x = h - shift and V of count x d:
//   image (count x d) += sum over rows of (V x) x^T, V times the shifted Gram, and column_sums (d) += sum of x.
ReadCounts gram_product(const Matrix& features, const double* shift, const double* vectors, std::int64_t count,
                        double* image, double* column_sums);

// errors (n) += sum over rows of (W h + b - y)^2, in float64.
ReadCounts prediction_error(const Matrix& features, const double* weights, const double* bias, const Matrix& targets,
                            double* errors);

}  // namespace nrc_fast
