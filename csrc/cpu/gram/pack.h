// Packs a block of rows into panels, converted, shifted and scaled on the way, and sums the columns of h - shift.
#pragma once

#include "cpu/gram/panel.h"

namespace nrc_fast::NRC_FAST_ISA {

// Rows packed together, so that one panel's writes and the sums stay in registers while reads stay sequential.
constexpr int pack_rows = 8;

// Outside these limits 1/norm, or the product with it, may leave the range of T.
template <class T>
constexpr double smallest_norm = sizeof(T) == 8 ? 0x1p-1000 : 0x1p-100;
template <class T>
constexpr double largest_norm = sizeof(T) == 8 ? 0x1p1000 : 0x1p100;

template <class T>
NRC_FAST_INLINE bool is_ordinary_norm(double norm) {
  return norm == 0.0 || (norm > smallest_norm<T> && norm < largest_norm<T>);
}

template <class T>
NRC_FAST_INLINE T inverse_norm(double norm) {
  return norm == 0.0 || !is_ordinary_norm<T>(norm) ? T(0) : static_cast<T>(1.0 / norm);
}

// What is stored of a row h: h - shift, h / norm or (h - shift) / norm.
enum class Rule { plain, unit, shifted_unit };

template <class T, class Row, Rule rule, bool partial, int vectors>
NRC_FAST_INLINE void pack_columns(const PackArguments& task, std::int64_t column, T* target, std::int64_t first,
                                  std::int64_t last, const T* scales) {
  const T* const shift_high = static_cast<const T*>(task.shift_high) + column;
  const T* const shift_low = static_cast<const T*>(task.shift_low) + column;
  Native<T> high[vectors];
  Native<T> low[vectors];
  Native<T> sums[vectors] = {};
#pragma GCC unroll 3
  for (int v = 0; v < vectors; ++v) {
    high[v] = load<Native<T>>(shift_high + v * lanes<T>);
    low[v] = load<Native<T>>(shift_low + v * lanes<T>);
  }
  for (std::int64_t row = first; row < last; ++row, target += vectors * lanes<T>) {
    const Row* const source = static_cast<const Row*>(task.rows) + row * task.row_stride + column;
    const T scale = rule == Rule::plain ? T(1) : scales[row - first];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      const int offset = v * lanes<T>;
      __builtin_prefetch(source + pack_rows * task.row_stride + offset);
      Native<T> value;
      if constexpr (partial) {
        const std::int64_t count = task.columns - column - offset;
        value = count >= lanes<T> ? load_rows_as<T>(source + offset)
                                  : load_partial_as<T>(source + (count > 0 ? offset : 0), count);
      } else {
        value = load_rows_as<T>(source + offset);
      }
      const Native<T> shifted = (value - high[v]) - low[v];
      sums[v] += shifted;
      if constexpr (rule == Rule::unit) {
        store(target + offset, value * scale);
      } else {
        store(target + offset, rule == Rule::plain ? shifted : shifted * scale);
      }
    }
  }
  T* const totals = static_cast<T*>(task.column_sums) + column;
#pragma GCC unroll 3
  for (int v = 0; v < vectors; ++v) {
    store(totals + v * lanes<T>, load<Native<T>>(totals + v * lanes<T>) + sums[v]);
  }
}

// The last panel, which may be narrow and end within a vector.
template <class T, class Row, Rule rule>
NRC_FAST_INLINE void pack_last_columns(const PackArguments& task, std::int64_t column, int width, T* target,
                                       std::int64_t first, std::int64_t last, const T* scales) {
  switch (width / lanes<T>) {
    case 1:
      return pack_columns<T, Row, rule, true, 1>(task, column, target, first, last, scales);
    case 2:
      return pack_columns<T, Row, rule, true, 2>(task, column, target, first, last, scales);
    default:
      return pack_columns<T, Row, rule, true, panel_vectors>(task, column, target, first, last, scales);
  }
}

template <class T, class Row, Rule rule>
void pack_rows_of(const PackArguments& task) {
  const std::int64_t whole_panels = task.columns / panel_width<T>;
  // Rows of few columns lie close together: twice as many at once. Not all, or the sums would be one long chain.
  const std::int64_t together = task.columns <= panel_width<T> ? 2 * pack_rows : pack_rows;
  for (std::int64_t first = 0; first < task.row_count; first += together) {
    const std::int64_t last = first + together < task.row_count ? first + together : task.row_count;
    T scales[2 * pack_rows];
    if constexpr (rule != Rule::plain) {
      for (std::int64_t r = first; r < last; ++r) scales[r - first] = inverse_norm<T>(task.row_norms[r]);
    }
    for (std::int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
      const std::int64_t column = panel * panel_width<T>;
      const int width = width_of<T>(panel, task.columns);
      T* const target = static_cast<T*>(task.packed) + offset_of<T>(panel, task.row_count) + first * width;
      if (panel < whole_panels) {
        pack_columns<T, Row, rule, false, panel_vectors>(task, column, target, first, last, scales);
      } else {
        pack_last_columns<T, Row, rule>(task, column, width, target, first, last, scales);
      }
    }
  }
}

// ||row - shift|| = norm * 2^exponent (no shift: null), of a row whose square, or whose norm itself, may over- or
// underflow.
struct ScaledNorm {
  double norm;
  int exponent;
};

template <class Row>
NRC_FAST_INLINE ScaledNorm scaled_norm(const Row* row, const double* shift, std::int64_t columns) {
  double largest = 0.0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double value = as_double(row[c]) - (shift != nullptr ? shift[c] : 0.0);
    if (!is_finite(value)) return {value, 0};
    const double magnitude = value < 0 ? -value : value;
    if (magnitude > largest) largest = magnitude;
  }
  int exponent = 0;
  (void)__builtin_frexp(largest, &exponent);
  double energy = 0.0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double value = __builtin_ldexp(as_double(row[c]) - (shift != nullptr ? shift[c] : 0.0), -exponent);
    energy += value * value;
  }
  return {__builtin_sqrt(energy), exponent};
}

// A row with an extreme norm: divided value by value in float64.
template <class T, class Row>
void pack_extreme_row(const PackArguments& task, std::int64_t r) {
  const Row* const row = static_cast<const Row*>(task.rows) + r * task.row_stride;
  const ScaledNorm norm = scaled_norm(row, task.unit_shift, task.columns);
  for (std::int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    const std::int64_t first = panel * panel_width<T>;
    const int width = width_of<T>(panel, task.columns);
    T* const target = static_cast<T*>(task.packed) + offset_of<T>(panel, task.row_count) + r * width;
    for (std::int64_t c = first; c < first + width && c < task.columns; ++c) {
      const double shift = task.unit_shift != nullptr ? task.unit_shift[c] : 0.0;
      const double value = __builtin_ldexp(as_double(row[c]) - shift, -norm.exponent) / norm.norm;
      target[c - first] = static_cast<T>(value);
    }
  }
}

template <class T, class Row>
void pack(const PackArguments& task) {
  if (task.row_norms == nullptr) return pack_rows_of<T, Row, Rule::plain>(task);
  if (task.unit_rows_are_shifted) {
    pack_rows_of<T, Row, Rule::shifted_unit>(task);
  } else {
    pack_rows_of<T, Row, Rule::unit>(task);
  }
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    if (!is_ordinary_norm<T>(task.row_norms[r])) pack_extreme_row<T, Row>(task, r);
  }
}

}  // namespace nrc_fast::NRC_FAST_ISA
