// Loads a few rows into a buffer that stays in the first-level cache, converted, shifted and where need be scaled, and
// holds them against the leading vectors on the way.
#pragma once

#include "cpu/residual/project.h"

namespace nrc_fast::NRC_FAST_ISA {

// Rows at a time, as in project.h.
constexpr int loaded_rows = vector_registers == 32 ? 4 : 2;

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

}  // namespace nrc_fast::NRC_FAST_ISA
