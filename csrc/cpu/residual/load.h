// Loads a few rows into a buffer that stays in the first-level cache, converted, shifted and where need be scaled, and
// holds them against the leading vectors on the way.
#pragma once

#include "cpu/residual/project.h"

namespace nrc_fast::NRC_FAST_ISA {

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
int load_scaled_row(const ProjectArguments& task, const Row* row, T* loaded, double* energy) {
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

// Loads `rows_together` rows from `first` on, the last one again where there are fewer, and holds them against the
// leading vectors while they are in registers.
template <class T, class Row, bool shifted, int vectors>
NRC_FAST_INLINE void load_rows(const ProjectArguments& task, std::int64_t first) {
  constexpr int N = lanes<T>;
  constexpr int rows = rows_together;
  const std::int64_t columns = task.columns;
  const std::int64_t stride = task.stride;
  const T* const directions = static_cast<const T*>(task.vectors);
  const T* const high = static_cast<const T*>(task.shift_high);
  const T* const low = static_cast<const T*>(task.shift_low);
  T* const target = static_cast<T*>(task.loaded) + first * stride;
  const Row* source[rows];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = first + r < task.row_count ? first + r : task.row_count - 1;
    source[r] = static_cast<const Row*>(task.rows) + row * task.row_stride;
  }
  // Of the squares of the row, and behind them the products with the vectors.
  Native<T> sums[rows][1 + vectors] = {};
  const auto add = [&](std::int64_t c, const Native<T>(&loaded)[rows]) __attribute__((always_inline)) {
    Native<T> values[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      values[r] = loaded[r];
      if constexpr (shifted) {
        values[r] -= load<Native<T>>(high + c);
        // Of a float64 shift nothing is left.
        if constexpr (sizeof(T) == 4) values[r] -= load<Native<T>>(low + c);
      }
      sums[r][0] += values[r] * values[r];
      store(target + r * stride + c, values[r]);
    }
    add_products<T, 1>(sums, directions + c, stride, values);
  };
  const RowsToCome ahead = rows_to_come(task, first, 0);
  std::int64_t c = 0;
  for (; c + N <= columns; c += N) {
    Native<T> loaded[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) loaded[r] = load_rows_as<T>(source[r] + c);
    ahead.fetch(c);
    add(c, loaded);
  }
  if (c < columns) {
    Native<T> loaded[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) loaded[r] = load_partial_as<T>(source[r] + c, columns - c);
    add(c, loaded);
  }
  T totals[(1 + vectors) * rows];
  store_sums<T>(sums, totals, rows);
  T* const coefficients = static_cast<T*>(task.coefficients) + first;
#pragma GCC unroll 5
  for (int v = 0; v < vectors; ++v) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) coefficients[v * task.padded_rows + r] = totals[(1 + v) * rows + r];
  }
  bool is_scaled = false;
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    double total = static_cast<double>(totals[r]);
    task.exponents[first + r] = 0;
    if (!(total > smallest_safe_energy<T> && total < largest_safe_energy<T>)) {
      task.exponents[first + r] = load_scaled_row<T, Row>(task, source[r], target + r * stride, &total);
      is_scaled = true;
    }
    task.energies[first + r] = total;
  }
  if constexpr (vectors > 0) {
    if (is_scaled) project_tile<T, vectors>(task, first, 0, ahead);
  }
}

template <class T, class Row, bool shifted, int vectors>
void load_all_rows(const ProjectArguments& task) {
  for (std::int64_t first = 0; first < task.row_count; first += rows_together) {
    load_rows<T, Row, shifted, vectors>(task, first);
  }
}

template <class T, class Row, bool shifted>
NRC_FAST_INLINE void load_for(const ProjectArguments& task) {
  switch (unit_tiles(task.vector_count).size(0)) {
    case 1:
      return load_all_rows<T, Row, shifted, 0>(task);
    case 2:
      return load_all_rows<T, Row, shifted, 1>(task);
    case 3:
      return load_all_rows<T, Row, shifted, 2>(task);
    case 4:
      return load_all_rows<T, Row, shifted, 3>(task);
    case 5:
      return load_all_rows<T, Row, shifted, 4>(task);
    default:
      return load_all_rows<T, Row, shifted, most_units - 1>(task);
  }
}

template <class T, class Row>
void project(const ProjectArguments& task) {
  if (task.is_shifted) {
    load_for<T, Row, true>(task);
  } else {
    load_for<T, Row, false>(task);
  }
  project_behind_first<T>(task);
}

}  // namespace nrc_fast::NRC_FAST_ISA
