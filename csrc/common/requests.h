// What callers ask of the kernels, on the CPU as on a CUDA device: the fields that both sides share. Each side derives
// its own requests, with what it alone needs. Pointers are to the memory that the rows lie in.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "common/matrix.h"

namespace nrc_fast {

// Sums over rows, in one read; h is a row of the features, y of the targets, s the shift, t the target shift (null:
// zero).
//   gram         d x d   lower triangle of sum (h - s)(h - s)^T
//   unit_gram    d x d   the same of sum u u^T with u = x / ||x||, x = h, or h - s if unit_rows_are_shifted
//   column_sums  d       sum (h - s)
//   cross        n x d   sum (y - t)(h - s)^T
//   target_gram  n x n   lower triangle of sum (y - t)(y - t)^T, in float64 whatever the precision
//   target_sums  n       sum (y - t)
// All of them are float64, and any may be null; the last three need targets.
template <class Rows>
struct GramFields {
  Rows features;
  const double* shift = nullptr;
  double* gram = nullptr;
  double* unit_gram = nullptr;
  bool unit_rows_are_shifted = false;
  double* column_sums = nullptr;
  MatrixView targets;
  const double* target_shift = nullptr;
  double* cross = nullptr;
  double* target_gram = nullptr;
  double* target_sums = nullptr;

  bool has_target_moments() const { return target_gram != nullptr || target_sums != nullptr; }
  bool uses_targets() const { return cross != nullptr || has_target_moments(); }
};

// One basis of a residual pass: U is k x d with orthonormal rows, x = h - shift (null: zero).
// Adds, for every j = 0..k with the leading j vectors, to float64 arrays of k + 1 numbers
//   raw_sums[j]   sum over rows of ||x - U_j^T U_j x||^2
//   unit_sums[j]  the same of x / ||x||; a zero row adds 0
// and writes, where not null, ||x - U^T U x||^2 and ||x||^2 of each row.
//
// The residual is the expanded form ||x||^2 - ||c||^2, c = U x, or where that cancels the norm of x - U^T c.
// Leading parts follow without cancellation, by adding squares of the trailing coefficients.
struct ResidualJob {
  const double* basis = nullptr;
  std::int64_t vectors = 0;
  const double* shift = nullptr;
  double* raw_sums = nullptr;
  double* unit_sums = nullptr;
  double* row_residuals = nullptr;
  double* row_energies = nullptr;
  double* expanded = nullptr;  // energy of rows in expanded form, and their number
};

// Below this share of the energy the expanded form loses more than three decimal digits (float64) or two bits.
constexpr double least_expanded_in_float64 = 1e-3;
constexpr double least_expanded_in_float32 = 0.25;

constexpr double least_expanded(bool is_float64) {
  return is_float64 ? least_expanded_in_float64 : least_expanded_in_float32;
}

// Rows, and the few vectors that they are multiplied with in float64: V, count x d.
template <class Rows>
struct ProductFields {
  Rows features;
  const double* vectors = nullptr;
  std::int64_t count = 0;
};

// image (count x d) += sum over rows of (V x) x^T with x = h - shift, V times the shifted Gram, column_sums (d) += sum
// of x, and energy (one number) += sum of ||x||^2.
struct GramProduct {
  const double* shift = nullptr;
  double* image = nullptr;
  double* column_sums = nullptr;
  double* energy = nullptr;
};

// errors (count) += sum over rows of e^2 with e = scale V h + bias - y; targets have a column for each vector. The
// scale is a power of two. Products, where not null, are those of the residuals with what the vectors make of the rows:
// count x count += sum over rows of -e (V h)^T, and behind them two numbers += sum of ||V h||^2, and of ||h||^2.
struct PredictionError {
  const double* bias = nullptr;
  MatrixView targets;
  double* errors = nullptr;
  double scale = 1.0;
  double* products = nullptr;
};

constexpr int descent_rate_count = 7;  // learning rates of W, T and b, penalties of W, H and b, momentum

// Steps of gradient descent on the unconstrained feature model. Arrays of `problems` states, float64 or float32,
// contiguous; rows of `stride` elements are padded with zeros to whole 64 bytes. Velocities may be null where no
// momentum is set.
struct DescentBatch {
  bool double_precision = true;
  std::int64_t problems = 0;
  std::int64_t d = 0;
  std::int64_t n = 0;
  std::int64_t stride = 0;
  void* transforms = nullptr;  // [problem][d][stride]
  void* weights = nullptr;     // [problem][d][n]
  void* biases = nullptr;      // [problem][n]
  void* transform_velocities = nullptr;
  void* weight_velocities = nullptr;
  void* bias_velocities = nullptr;
  const void* moments = nullptr;  // [moment][d + n + 1][stride]
  const std::int64_t* moment_index = nullptr;
  const double* rates = nullptr;        // [problem][descent_rate_count]
  const std::int64_t* steps = nullptr;  // of each problem; 0 leaves it as it is

  std::int64_t element_size() const { return double_precision ? 8 : 4; }
};

inline void require_same_rows(const MatrixView& features, const MatrixView& targets) {
  if (features.rows != targets.rows) throw std::invalid_argument("features and targets differ in their rows");
}

inline void require_target_columns(const MatrixView& features, const MatrixView& targets, std::int64_t outputs) {
  require_same_rows(features, targets);
  if (targets.columns != outputs) throw std::invalid_argument("targets must have a column for each output");
}

inline void require_padded_states(const DescentBatch& batch) {
  if (batch.d < 1 || batch.n < 1 || batch.stride < batch.d + batch.n + 1 ||
      batch.stride * batch.element_size() % 64 != 0) {
    throw std::invalid_argument("a state of descent has d, n >= 1 and rows of whole 64 bytes");
  }
}

}  // namespace nrc_fast
