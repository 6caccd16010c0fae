// The projection residual of one instruction set: coefficients c = U x, and x - U^T c where it must be explicit.
//
// A few rows are loaded once into a buffer that stays in the first-level cache; everything else reads that buffer.
#pragma once

#include "cpu/residual/load.h"
#include "cpu/residual/multiply.h"
#include "cpu/residual/project.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int explicit_rows_together = 4;

template <class T, int rows>
NRC_FAST_INLINE void explicit_rows(const BasisArguments& task, std::int64_t row) {
  constexpr int N = lanes<T>;
  constexpr int columns = 2;
  const T* const loaded = static_cast<const T*>(task.loaded) + row * task.padded_columns;
  const T* const basis = static_cast<const T*>(task.basis);
  const T* const coefficients = static_cast<const T*>(task.coefficients) + row * task.vector_count;
  Native<T> energies[rows] = {};
  for (std::int64_t c = 0; c < task.padded_columns; c += columns * N) {
    Native<T> rest[rows][columns];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) {
        rest[r][v] = load<Native<T>>(loaded + r * task.padded_columns + c + v * N);
      }
    }
    for (std::int64_t k = 0; k < task.vector_count; ++k) {
      Native<T> directions[columns];
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) directions[v] = load<Native<T>>(basis + k * task.padded_columns + c + v * N);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const T coefficient = coefficients[r * task.vector_count + k];
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

template <class T>
void explicit_residual(const BasisArguments& task) {
  std::int64_t row = 0;
  constexpr int rows = explicit_rows_together;
  for (; row + rows <= task.row_count; row += rows) explicit_rows<T, rows>(task, row);
  for (; row < task.row_count; ++row) explicit_rows<T, 1>(task, row);
}

// With so few vectors that their sums stay in registers.
template <class T, int count>
void square_few(const SquareArguments& task) {
  const T* coefficients = static_cast<const T*>(task.coefficients);
  double raw[count] = {};
  double unit[count] = {};
  for (std::int64_t r = 0; r < task.row_count; ++r, coefficients += count) {
    double captured = 0.0;
#pragma GCC unroll 4
    for (int k = 0; k < count; ++k) {
      const double square = static_cast<double>(coefficients[k]) * static_cast<double>(coefficients[k]);
      captured += square;
      raw[k] += task.raw_weights[r] * square;
      unit[k] += task.unit_weights[r] * square;
    }
    task.captured[r] = captured;
  }
#pragma GCC unroll 4
  for (int k = 0; k < count; ++k) {
    task.raw_sums[k] += raw[k];
    task.unit_sums[k] += unit[k];
  }
}

template <class T>
void square_many(const SquareArguments& task) {
  constexpr int N = lanes<double>;
  const T* coefficients = static_cast<const T*>(task.coefficients);
  for (std::int64_t r = 0; r < task.row_count; ++r, coefficients += task.vector_count) {
    Native<double> sums = {};
    std::int64_t k = 0;
    for (; k + N <= task.vector_count; k += N) {
      const Native<double> value = widen(load<Vector<T, N>>(coefficients + k));
      const Native<double> square = value * value;
      sums += square;
      add_widened(task.raw_sums + k, task.raw_weights[r] * square);
      add_widened(task.unit_sums + k, task.unit_weights[r] * square);
    }
    double captured = horizontal_sum<double, N>(sums);
    for (; k < task.vector_count; ++k) {
      const double square = static_cast<double>(coefficients[k]) * static_cast<double>(coefficients[k]);
      captured += square;
      task.raw_sums[k] += task.raw_weights[r] * square;
      task.unit_sums[k] += task.unit_weights[r] * square;
    }
    task.captured[r] = captured;
  }
}

template <class T>
void square_sums(const SquareArguments& task) {
  switch (task.vector_count) {
    case 1:
      return square_few<T, 1>(task);
    case 2:
      return square_few<T, 2>(task);
    case 3:
      return square_few<T, 3>(task);
    case 4:
      return square_few<T, 4>(task);
    default:
      return square_many<T>(task);
  }
}

template <class T>
constexpr ResidualKernels residual_kernels_of() {
  ResidualKernels kernels = {};
  kernels.lanes = lanes<T>;
  kernels.element_size = sizeof(T);
  if constexpr (is_same<T, double>) kernels.load[static_cast<int>(DType::float64)] = load_block<T, double>;
  kernels.load[static_cast<int>(DType::float32)] = load_block<T, float>;
  kernels.load[static_cast<int>(DType::float16)] = load_block<T, Float16>;
  kernels.load[static_cast<int>(DType::bfloat16)] = load_block<T, BFloat16>;
  kernels.project = project<T>;
  kernels.explicit_residual = explicit_residual<T>;
  kernels.square_sums = square_sums<T>;
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
