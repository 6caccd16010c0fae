// Sums of targets and of their products, each as an unevaluated sum of two float64 numbers.
#pragma once

#include "common/matrix.h"
#include "cpu/machine/row_counts.h"

namespace nrc_fast {

// sum (y - t) and the lower triangle of sum (y - t)(y - t)^T, n and n x n, and what float64 has no room for.
template <class Number>
struct TargetSums {
  Number* gram = nullptr;
  Number* gram_rest = nullptr;
  Number* sums = nullptr;
  Number* sums_rest = nullptr;
};

// All sums are written, onto what they are put onto, null for zeros, but when a row is not finite.
struct TargetSumsRequest {
  MatrixView targets;
  const double* shift = nullptr;
  TargetSums<double> found;
  TargetSums<const double> onto;
};

// What the rows were like, and sum |y - t|^2 without what it is put onto.
struct TargetTotals {
  ReadCounts counts;
  double energy = 0.0;
};

TargetTotals target_sums(const TargetSumsRequest& request);

}  // namespace nrc_fast
