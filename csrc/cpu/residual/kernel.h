// The projection residual of one instruction set: coefficients c = U x, and x - U^T c where it must be explicit.
//
// A few rows are loaded once into a buffer that stays in the first-level cache; everything else reads that buffer.
#pragma once

#include "cpu/residual/image.h"
#include "cpu/residual/load.h"
#include "cpu/residual/multiply.h"
#include "cpu/residual/outputs.h"
#include "cpu/residual/project.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int explicit_rows_together = 4;

template <class T>
void explicit_rows(const BasisArguments& task, std::int64_t row) {
  constexpr int N = lanes<T>;
  constexpr int rows = explicit_rows_together;
  constexpr int columns = 2;
  const T* const loaded = static_cast<const T*>(task.loaded) + row * task.stride;
  const T* const basis = static_cast<const T*>(task.basis);
  const T* const coefficients = static_cast<const T*>(task.coefficients) + row;
  Native<T> energies[rows] = {};
  for (std::int64_t c = 0; c < task.padded_columns; c += columns * N) {
    Native<T> rest[rows][columns];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) {
        rest[r][v] = load<Native<T>>(loaded + r * task.stride + c + v * N);
      }
    }
    for (std::int64_t k = 0; k < task.vector_count; ++k) {
      Native<T> directions[columns];
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) directions[v] = load<Native<T>>(basis + k * task.stride + c + v * N);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const T coefficient = coefficients[k * task.padded_rows + r];
#pragma GCC unroll 2
        for (int v = 0; v < columns; ++v) rest[r][v] -= coefficient * directions[v];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) energies[r] += rest[r][v] * rest[r][v];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    task.residuals[row + r] = static_cast<double>(horizontal_sum<T, N>(energies[r]));
  }
}

// Adds the squares of the coefficients to the sums, finds the residuals by expansion, and says whether one cancels.
template <class T>
bool add_squares(const BasisArguments& task) {
  constexpr int N = lanes<double>;
  bool cancels = false;
  for (std::int64_t r = 0; r < task.row_count; r += N) {
    const T* const coefficients = static_cast<const T*>(task.coefficients) + r;
    const auto raw_weights = load<Native<double>>(task.raw_weights + r);
    const auto unit_weights = load<Native<double>>(task.unit_weights + r);
    Native<double> captured = {};
    for (std::int64_t k = 0; k < task.vector_count; ++k) {
      const Native<double> value = widen(load<Vector<T, N>>(coefficients + k * task.padded_rows));
      const Native<double> square = value * value;
      captured += square;
      add_widened(task.raw_sums + k * sum_lanes, raw_weights * square);
      add_widened(task.unit_sums + k * sum_lanes, unit_weights * square);
    }
    const auto energies = load<Native<double>>(task.energies + r);
    const Native<double> residuals = energies - captured;
    store(task.residuals + r, residuals);
    const auto is_small = residuals < task.least_expanded * energies;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) cancels = cancels || is_small[i] != 0;
  }
  return cancels;
}

// Squares of rows, to raw sums and to those of x / ||x||.
NRC_FAST_INLINE void add_weighted(const BasisArguments& task, const double* squares, std::int64_t lane) {
  for (std::int64_t r = 0; r < task.row_count; r += lanes<double>) {
    const auto values = load<Native<double>>(squares + r);
    add_widened(task.raw_sums + lane, load<Native<double>>(task.raw_weights + r) * values);
    add_widened(task.unit_sums + lane, load<Native<double>>(task.unit_weights + r) * values);
  }
}

template <class T>
void add_residuals(const BasisArguments& task) {
  const bool is_expanded = !add_squares<T>(task);
  if (!is_expanded) {
    for (std::int64_t row = 0; row < task.row_count; row += explicit_rows_together) explicit_rows<T>(task, row);
  }
  const std::int64_t behind = task.vector_count * sum_lanes;
  add_weighted(task, task.residuals, behind);
  if (is_expanded) add_weighted(task, task.energies, behind + sum_lanes);
}

template <class T>
constexpr ResidualKernels residual_kernels_of() {
  ResidualKernels kernels = {};
  kernels.lanes = lanes<T>;
  kernels.element_size = sizeof(T);
  if constexpr (is_same<T, double>) kernels.project[static_cast<int>(DType::float64)] = project<T, double>;
  kernels.project[static_cast<int>(DType::float32)] = project<T, float>;
  kernels.project[static_cast<int>(DType::float16)] = project<T, Float16>;
  kernels.project[static_cast<int>(DType::bfloat16)] = project<T, BFloat16>;
  kernels.add_residuals = add_residuals<T>;
  kernels.multiply_outputs = multiply_outputs;
  kernels.add_images = is_same<T, double> ? add_images : nullptr;
  return kernels;
}

const ResidualKernels& residual_float32() {
  static constexpr ResidualKernels kernels = residual_kernels_of<float>();
  return kernels;
}

const ResidualKernels& residual_float64() {
  static constexpr ResidualKernels kernels = residual_kernels_of<double>();
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
