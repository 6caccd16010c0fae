// The projection residual of one instruction set: coefficients c = U x, and x - U^T c where it must be explicit.
//
// A few rows are loaded once into a buffer that stays in the first-level cache; everything else reads that buffer.
#pragma once

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

// Vectors whose coefficients are computed while the rows are loaded.
constexpr int leading_vectors = 4;

// Rows at a time, so that the sums fit the registers and hide the latency of the products.
constexpr int loaded_rows = vector_registers == 32 ? 4 : 2;
constexpr int projected_rows = vector_registers == 32 ? 4 : 3;
constexpr int explicit_rows_together = 4;

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

// What up to four vectors add up to each.
template <class T, int count>
NRC_FAST_INLINE Vector<T, 4> sums_of(const Native<T> (&vectors)[count]) {
  static_assert(count >= 1 && count <= 4);
  const Native<T> zero = {};
  return horizontal_sums<T>(vectors[0], count > 1 ? vectors[count > 1 ? 1 : 0] : zero,
                            count > 2 ? vectors[count > 2 ? 2 : 0] : zero, count > 3 ? vectors[count - 1] : zero);
}

template <class T, int count>
NRC_FAST_INLINE void store_coefficients(T* target, Vector<T, 4> values) {
  if constexpr (count == 4) {
    store(target, values);
  } else {
#pragma GCC unroll 3
    for (int v = 0; v < count; ++v) target[v] = values[v];
  }
}

template <class T, int rows, int vectors>
NRC_FAST_INLINE void project_tile(const BasisArguments& task, std::int64_t row, std::int64_t vector) {
  constexpr int N = lanes<T>;
  const T* const loaded = static_cast<const T*>(task.loaded) + row * task.padded_columns;
  const T* const basis = static_cast<const T*>(task.basis) + vector * task.padded_columns;
  Native<T> sums[rows][vectors] = {};
  for (std::int64_t c = 0; c < task.padded_columns; c += N) {
    Native<T> values[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) values[r] = load<Native<T>>(loaded + r * task.padded_columns + c);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const auto direction = load<Native<T>>(basis + v * task.padded_columns + c);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) sums[r][v] += values[r] * direction;
    }
  }
  T* const coefficients = static_cast<T*>(task.coefficients) + row * task.vector_count + vector;
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    store_coefficients<T, vectors>(coefficients + r * task.vector_count, sums_of<T, vectors>(sums[r]));
  }
}

template <class T, int rows>
NRC_FAST_INLINE void project_rows(const BasisArguments& task, std::int64_t row) {
  std::int64_t vector = task.vector_count < leading_vectors ? task.vector_count : leading_vectors;
  for (; vector + 4 <= task.vector_count; vector += 4) project_tile<T, rows, 4>(task, row, vector);
  const std::int64_t left = task.vector_count - vector;
  if (left == 3) project_tile<T, rows, 3>(task, row, vector);
  if (left == 2) project_tile<T, rows, 2>(task, row, vector);
  if (left == 1) project_tile<T, rows, 1>(task, row, vector);
}

// The coefficients that loading has left. The last tile goes back over rows that are done, to be a whole one.
template <class T>
void project(const BasisArguments& task) {
  constexpr int rows = projected_rows;
  if (task.row_count < rows) {
    for (std::int64_t row = 0; row < task.row_count; ++row) project_rows<T, 1>(task, row);
    return;
  }
  for (std::int64_t row = 0; row < task.row_count; row += rows) {
    project_rows<T, rows>(task, row + rows <= task.row_count ? row : task.row_count - rows);
  }
}

template <class T, int vectors>
NRC_FAST_INLINE void project_leading(const BasisArguments& task, std::int64_t row) {
  if constexpr (vectors > 0) project_tile<T, 1, vectors>(task, row, 0);
}

// How far ahead of a row another one is fetched: at least as many as are loaded together, and some kilobytes.
template <class Row>
NRC_FAST_INLINE std::int64_t rows_ahead(std::int64_t row_stride) {
  constexpr std::int64_t least_bytes = 3 << 10;
  const std::int64_t row_bytes = (row_stride < 0 ? -row_stride : row_stride) * static_cast<std::int64_t>(sizeof(Row));
  const std::int64_t needed = row_bytes > 0 ? (least_bytes + row_bytes - 1) / row_bytes : 0;
  return needed > loaded_rows ? needed : loaded_rows;
}

// Loads `loaded_rows` rows from `first` on, the last one again where there are fewer, and holds them against the
// leading vectors while they are in registers.
template <class T, class Row, bool shifted, int vectors>
NRC_FAST_INLINE void load_rows(const LoadArguments& task, const BasisArguments& basis, std::int64_t first) {
  constexpr int N = lanes<T>;
  constexpr int rows = loaded_rows;
  // The hardware alone loses its way between several rows.
  const std::int64_t ahead = rows_ahead<Row>(task.row_stride) * task.row_stride;
  const T* const directions = static_cast<const T*>(basis.basis);
  std::int64_t row[rows];
  const Row* source[rows];
  T* target[rows];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    row[r] = first + r < task.row_count ? first + r : task.row_count - 1;
    source[r] = static_cast<const Row*>(task.rows) + row[r] * task.row_stride;
    target[r] = static_cast<T*>(task.loaded) + row[r] * task.padded_columns;
  }
  // Of the products with the vectors, and behind them the squares of the row.
  Native<T> sums[rows][vectors + 1] = {};
  const auto add = [&](std::int64_t c, const Native<T>(&loaded)[rows]) __attribute__((always_inline)) {
    Native<T> values[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      values[r] = loaded[r];
      if constexpr (shifted) {
        values[r] -= load<Native<T>>(static_cast<const T*>(task.shift_high) + c);
        // Of a float64 shift nothing is left.
        if constexpr (sizeof(T) == 4) values[r] -= load<Native<T>>(static_cast<const T*>(task.shift_low) + c);
      }
      sums[r][vectors] += values[r] * values[r];
      store(target[r] + c, values[r]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const auto direction = load<Native<T>>(directions + v * basis.padded_columns + c);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) sums[r][v] += values[r] * direction;
    }
  };
  std::int64_t c = 0;
  for (; c + 2 * N <= task.columns; c += 2 * N) {
#pragma GCC unroll 2
    for (int step = 0; step < 2; ++step) {
      Native<T> loaded[rows];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        if (step == 0) __builtin_prefetch(source[r] + ahead + c);
        loaded[r] = load_rows_as<T>(source[r] + c + step * N);
      }
      add(c + step * N, loaded);
    }
  }
  for (; c < task.columns; c += N) {
    Native<T> loaded[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      loaded[r] = load_partial_as<T>(source[r] + c, task.columns - c < N ? task.columns - c : N);
    }
    add(c, loaded);
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    T* const coefficients = static_cast<T*>(basis.coefficients) + row[r] * basis.vector_count;
    double total;
    if constexpr (vectors < 4) {
      const auto found = sums_of<T, vectors + 1>(sums[r]);
      store_coefficients<T, vectors>(coefficients, found);
      total = static_cast<double>(found[vectors]);
    } else {
      store_coefficients<T, 4>(coefficients, horizontal_sums<T>(sums[r][0], sums[r][1], sums[r][2], sums[r][3]));
      total = static_cast<double>(horizontal_sum<T, N>(sums[r][4]));
    }
    task.exponents[row[r]] = 0;
    if (!(total > smallest_safe_energy<T> && total < largest_safe_energy<T>)) {
      task.exponents[row[r]] = load_scaled_row<T, Row>(task, source[r], target[r], &total);
      project_leading<T, vectors>(basis, row[r]);
    }
    task.energies[row[r]] = total;
  }
}

template <class T, class Row, bool shifted, int vectors>
void load_all_rows(const LoadArguments& task, const BasisArguments& basis) {
  for (std::int64_t first = 0; first < task.row_count; first += loaded_rows) {
    load_rows<T, Row, shifted, vectors>(task, basis, first);
  }
}

template <class T, class Row, bool shifted>
NRC_FAST_INLINE void load_for(const LoadArguments& task, const BasisArguments& basis) {
  switch (basis.vector_count) {
    case 0:
      return load_all_rows<T, Row, shifted, 0>(task, basis);
    case 1:
      return load_all_rows<T, Row, shifted, 1>(task, basis);
    case 2:
      return load_all_rows<T, Row, shifted, 2>(task, basis);
    case 3:
      return load_all_rows<T, Row, shifted, 3>(task, basis);
    default:
      return load_all_rows<T, Row, shifted, leading_vectors>(task, basis);
  }
}

template <class T, class Row>
void load_block(const LoadArguments& task, const BasisArguments& basis) {
  if (task.is_shifted) {
    load_for<T, Row, true>(task, basis);
  } else {
    load_for<T, Row, false>(task, basis);
  }
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
  constexpr int rows = explicit_rows_together;
  for (; row + rows <= task.row_count; row += rows) explicit_rows<T, rows>(task, row);
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
