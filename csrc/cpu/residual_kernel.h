// The projection residual of one instruction set: coefficients c = U x, and x - U^T c where it must be explicit.
//
// A few rows are loaded once into a buffer that stays in the first-level cache; everything else reads that buffer.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int residual_rows = 4;
constexpr int residual_vectors = vector_registers == 32 ? 4 : 3;

template <class T>
constexpr double smallest_safe_energy = sizeof(T) == 8 ? 0x1p-900 : 0x1p-80;
template <class T>
constexpr double largest_safe_energy = sizeof(T) == 8 ? 0x1p900 : 0x1p80;

template <class Row>
NRC_FAST_INLINE double magnitude(Row value, double shift) {
  const double difference = as_double(value) - shift;
  return difference < 0 ? -difference : difference;
}

// A row too large or too small to be squared: loaded divided by a power of two, which costs no digit.
template <class T, class Row>
int load_scaled_row(const LoadArguments& task, const Row* row, T* loaded, double* energy) {
  const T* const high = static_cast<const T*>(task.shift_high);
  const T* const low = static_cast<const T*>(task.shift_low);
  double largest = 0.0;
  for (std::int64_t c = 0; c < task.columns; ++c) {
    const double value = magnitude(row[c], static_cast<double>(high[c]) + static_cast<double>(low[c]));
    if (!is_finite(value)) return 0;
    if (value > largest) largest = value;
  }
  int exponent = 0;
  (void)__builtin_frexp(largest, &exponent);
  *energy = 0.0;
  for (std::int64_t c = 0; c < task.columns; ++c) {
    const double value = as_double(row[c]) - static_cast<double>(high[c]) - static_cast<double>(low[c]);
    const double scaled = __builtin_ldexp(value, -exponent);
    loaded[c] = static_cast<T>(scaled);
    *energy += scaled * scaled;
  }
  return exponent;
}

template <class T, class Row>
void load_block(const LoadArguments& task) {
  constexpr int N = lanes<T>;
  // While one group is computed the next is on its way: the hardware would start over with every group.
  const std::int64_t ahead = task.row_count * task.row_stride;
  const T* const high = static_cast<const T*>(task.shift_high);
  const T* const low = static_cast<const T*>(task.shift_low);
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    const Row* const row = static_cast<const Row*>(task.rows) + r * task.row_stride;
    T* const loaded = static_cast<T*>(task.loaded) + r * task.padded_columns;
    Native<T> energy[2] = {};
    std::int64_t c = 0;
    for (; c + 2 * N <= task.columns; c += 2 * N) {
      __builtin_prefetch(row + ahead + c);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const auto column = c + v * N;
        const auto value =
            (load_rows_as<T>(row + column) - load<Native<T>>(high + column)) - load<Native<T>>(low + column);
        energy[v] += value * value;
        store(loaded + column, value);
      }
    }
    for (; c < task.columns; c += N) {
      const auto count = task.columns - c < N ? task.columns - c : N;
      const auto value = (load_partial_as<T>(row + c, count) - load<Native<T>>(high + c)) - load<Native<T>>(low + c);
      energy[0] += value * value;
      store(loaded + c, value);
    }
    double total = static_cast<double>(horizontal_sum<T, N>(energy[0] + energy[1]));
    task.exponents[r] = 0;
    if (!(total > smallest_safe_energy<T> && total < largest_safe_energy<T>)) {
      task.exponents[r] = load_scaled_row<T, Row>(task, row, loaded, &total);
    }
    task.energies[r] = total;
  }
}

template <class T, int rows, int vectors>
NRC_FAST_INLINE void project_tile(const BasisArguments& task, std::int64_t row, std::int64_t vector) {
  constexpr int N = lanes<T>;
  const T* const loaded = static_cast<const T*>(task.loaded) + row * task.padded_columns;
  const T* const basis = static_cast<const T*>(task.basis) + vector * task.padded_columns;
  Native<T> sums[rows][vectors] = {};
  for (std::int64_t c = 0; c < task.padded_columns; c += N) {
    Native<T> directions[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) directions[v] = load<Native<T>>(basis + v * task.padded_columns + c);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const auto value = load<Native<T>>(loaded + r * task.padded_columns + c);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] += value * directions[v];
    }
  }
  T* const coefficients = static_cast<T*>(task.coefficients);
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      coefficients[(row + r) * task.vector_count + vector + v] = horizontal_sum<T, N>(sums[r][v]);
    }
  }
}

template <class T, int rows>
NRC_FAST_INLINE void project_rows(const BasisArguments& task, std::int64_t row) {
  std::int64_t vector = 0;
  for (; vector + residual_vectors <= task.vector_count; vector += residual_vectors) {
    project_tile<T, rows, residual_vectors>(task, row, vector);
  }
  const std::int64_t left = task.vector_count - vector;
  if (left == 3) project_tile<T, rows, 3>(task, row, vector);
  if (left == 2) project_tile<T, rows, 2>(task, row, vector);
  if (left == 1) project_tile<T, rows, 1>(task, row, vector);
}

template <class T>
void project(const BasisArguments& task) {
  std::int64_t row = 0;
  for (; row + residual_rows <= task.row_count; row += residual_rows) project_rows<T, residual_rows>(task, row);
  for (; row < task.row_count; ++row) project_rows<T, 1>(task, row);
}

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
  for (; row + residual_rows <= task.row_count; row += residual_rows) explicit_rows<T, residual_rows>(task, row);
  for (; row < task.row_count; ++row) explicit_rows<T, 1>(task, row);
}

template <int vectors>
NRC_FAST_INLINE void image_tile(const BasisArguments& task, std::int64_t vector, std::int64_t column) {
  constexpr int N = lanes<double>;
  constexpr int columns = 2;
  const double* loaded = static_cast<const double*>(task.loaded) + column;
  const double* coefficients = static_cast<const double*>(task.coefficients) + vector;
  Native<double> sums[vectors][columns] = {};
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    Native<double> values[columns];
#pragma GCC unroll 2
    for (int v = 0; v < columns; ++v) values[v] = load<Native<double>>(loaded + v * N);
#pragma GCC unroll 4
    for (int k = 0; k < vectors; ++k) {
#pragma GCC unroll 2
      for (int v = 0; v < columns; ++v) sums[k][v] += coefficients[k] * values[v];
    }
    loaded += task.padded_columns;
    coefficients += task.vector_count;
  }
#pragma GCC unroll 4
  for (int k = 0; k < vectors; ++k) {
#pragma GCC unroll 2
    for (int v = 0; v < columns; ++v) {
      double* const target = task.image + (vector + k) * task.padded_columns + column + v * N;
      store(target, load<Native<double>>(target) + sums[k][v]);
    }
  }
}

inline void image(const BasisArguments& task) {
  for (std::int64_t column = 0; column < task.padded_columns; column += 2 * lanes<double>) {
    std::int64_t vector = 0;
    for (; vector + 4 <= task.vector_count; vector += 4) image_tile<4>(task, vector, column);
    for (; vector < task.vector_count; ++vector) image_tile<1>(task, vector, column);
  }
}

template <class T>
void square_sums(const SquareArguments& task) {
  const T* coefficients = static_cast<const T*>(task.coefficients);
  for (std::int64_t r = 0; r < task.row_count; ++r, coefficients += task.vector_count) {
    double captured = 0.0;
    for (std::int64_t k = 0; k < task.vector_count; ++k) {
      const double square = static_cast<double>(coefficients[k]) * static_cast<double>(coefficients[k]);
      captured += square;
      task.raw_sums[k] += task.raw_weights[r] * square;
      task.unit_sums[k] += task.unit_weights[r] * square;
    }
    task.captured[r] = captured;
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
  if constexpr (is_same<T, double>) kernels.image = image;
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
