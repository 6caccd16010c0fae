// The Gram kernel of one instruction set (kernels.md F and J.3 of the design notes).
//
// A block of rows is packed once into panels of `panel_width` columns, [panel][row][column], converted, shifted
// and scaled on the way. For one row of a panel the columns are contiguous, so the same panel serves both
// operands of the product: whole vectors of it are the right operand, single values broadcast are the left one.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

// Three vectors wide, and as tall as the registers allow: 8 x 3 accumulators of 32, or 4 x 3 of 16.
constexpr int panel_vectors = 3;
template <class T>
constexpr int panel_width = panel_vectors * lanes<T>;
template <class T>
constexpr int tile_rows = vector_registers == 32 ? 8 : (panel_width<T> % 4 == 0 ? 4 : 3);

// Rows packed together, so that one panel's writes and the sums stay in registers while reads stay sequential.
constexpr int pack_rows = 8;

template <class T>
NRC_FAST_INLINE Native<T> shifted(Native<T> value, const T* high, const T* low) {
  return (value - load<Native<T>>(high)) - load<Native<T>>(low);
}

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

template <class T, class Row, bool scaled, bool partial>
NRC_FAST_INLINE void pack_panel_rows(const PackArguments& task, std::int64_t panel, std::int64_t first,
                                     std::int64_t last) {
  constexpr int width = panel_width<T>;
  const std::int64_t column = panel * width;
  const T* const high = static_cast<const T*>(task.shift_high) + column;
  const T* const low = static_cast<const T*>(task.shift_low) + column;
  T* target = static_cast<T*>(task.packed) + (panel * task.row_count + first) * width;
  Native<T> sums[panel_vectors] = {};
  for (std::int64_t row = first; row < last; ++row, target += width) {
    const Row* const source = static_cast<const Row*>(task.rows) + row * task.row_stride + column;
    const T scale = scaled ? inverse_norm<T>(task.row_norms[row]) : T(1);
#pragma GCC unroll 3
    for (int v = 0; v < panel_vectors; ++v) {
      const int offset = v * lanes<T>;
      __builtin_prefetch(source + pack_rows * task.row_stride + offset);
      Native<T> value;
      if constexpr (partial) {
        std::int64_t count = task.columns - column - offset;
        count = count < 0 ? 0 : (count > lanes<T> ? lanes<T> : count);
        value = load_partial_as<T>(source + (count > 0 ? offset : 0), count);
      } else {
        value = load_rows_as<T>(source + offset);
      }
      value = shifted<T>(value, high + offset, low + offset);
      if constexpr (scaled) value *= scale;
      sums[v] += value;
      store(target + offset, value);
    }
  }
  T* const totals = static_cast<T*>(task.column_sums) + column;
#pragma GCC unroll 3
  for (int v = 0; v < panel_vectors; ++v) {
    store(totals + v * lanes<T>, load<Native<T>>(totals + v * lanes<T>) + sums[v]);
  }
}

template <class T, class Row, bool scaled>
void pack_rows_of(const PackArguments& task) {
  const std::int64_t whole_panels = task.columns / panel_width<T>;
  for (std::int64_t first = 0; first < task.row_count; first += pack_rows) {
    const std::int64_t last = first + pack_rows < task.row_count ? first + pack_rows : task.row_count;
    for (std::int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
      if (panel < whole_panels) {
        pack_panel_rows<T, Row, scaled, false>(task, panel, first, last);
      } else {
        pack_panel_rows<T, Row, scaled, true>(task, panel, first, last);
      }
    }
  }
}

// ||row - shift|| = norm * 2^exponent, of a row whose square, or whose norm itself, may over- or underflow.
struct ScaledNorm {
  double norm;
  int exponent;
};

template <class Row>
NRC_FAST_INLINE ScaledNorm scaled_norm(const Row* row, const double* shift, std::int64_t columns) {
  double largest = 0.0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double value = as_double(row[c]) - shift[c];
    if (!is_finite(value)) return {value, 0};
    const double magnitude = value < 0 ? -value : value;
    if (magnitude > largest) largest = magnitude;
  }
  int exponent = 0;
  (void)__builtin_frexp(largest, &exponent);
  double energy = 0.0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double value = __builtin_ldexp(as_double(row[c]) - shift[c], -exponent);
    energy += value * value;
  }
  return {__builtin_sqrt(energy), exponent};
}

// A row with an extreme norm: divided value by value in float64.
template <class T, class Row>
void pack_extreme_row(const PackArguments& task, std::int64_t r) {
  constexpr int width = panel_width<T>;
  const Row* const row = static_cast<const Row*>(task.rows) + r * task.row_stride;
  const ScaledNorm norm = scaled_norm(row, task.unit_shift, task.columns);
  for (std::int64_t c = task.first_panel * width; c < task.last_panel * width && c < task.columns; ++c) {
    const double value = __builtin_ldexp(as_double(row[c]) - task.unit_shift[c], -norm.exponent) / norm.norm;
    static_cast<T*>(task.packed)[(c / width * task.row_count + r) * width + c % width] = static_cast<T>(value);
  }
}

template <class T, class Row>
void pack(const PackArguments& task) {
  if (task.row_norms != nullptr) {
    pack_rows_of<T, Row, true>(task);
    for (std::int64_t r = 0; r < task.row_count; ++r) {
      if (!is_ordinary_norm<T>(task.row_norms[r])) pack_extreme_row<T, Row>(task, r);
    }
  } else {
    pack_rows_of<T, Row, false>(task);
  }
}

template <class Row>
void row_norms(const NormArguments& task) {
  constexpr int N = lanes<double>;
  constexpr double smallest_safe = 0x1p-900;
  constexpr double largest_safe = 0x1p900;
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    const Row* const row = static_cast<const Row*>(task.rows) + r * task.row_stride;
    Native<double> energy = {};
    std::int64_t c = 0;
    for (; c + N <= task.columns; c += N) {
      const Native<double> value = load_rows_as<double>(row + c) - load<Native<double>>(task.shift + c);
      energy += value * value;
    }
    if (c < task.columns) {
      const Native<double> value =
          load_partial_as<double>(row + c, task.columns - c) - load<Native<double>>(task.shift + c);
      energy += value * value;
    }
    const double total = horizontal_sum<double, N>(energy);
    const bool safe = total > smallest_safe && total < largest_safe;
    if (safe) {
      task.norms[r] = __builtin_sqrt(total);
    } else {
      const ScaledNorm norm = scaled_norm(row, task.shift, task.columns);
      task.norms[r] = __builtin_ldexp(norm.norm, norm.exponent);
    }
  }
}

template <class Row>
void count_rows(const CountArguments& task) {
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    const Row* const row = static_cast<const Row*>(task.rows) + r * task.row_stride;
    if (is_zero(row[0])) {
      std::int64_t c = 1;
      while (c < task.columns && is_zero(row[c])) ++c;
      if (c == task.columns) ++task.counts->zero;
    }
    if (task.check_finite) {
      std::int64_t c = 0;
      while (c < task.columns && is_finite(as_double(row[c]))) ++c;
      if (c < task.columns) {
        if (task.counts->nonfinite == 0) task.counts->first_nonfinite = task.first_index + r;
        ++task.counts->nonfinite;
      }
    }
  }
}

// tile[r][c] += sum over rows k of left[k][r] * right[k][c], in registers, then added to float64.
template <class T, int rows, int vectors>
NRC_FAST_INLINE void accumulate_tile(std::int64_t row_count, const T* left, const T* right, double* tile) {
  constexpr int width = panel_width<T>;
  Native<T> sums[rows][vectors] = {};
  for (std::int64_t k = 0; k < row_count; ++k, left += width, right += width) {
    Native<T> values[vectors];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) values[v] = load<Native<T>>(right + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) sums[r][v] += left[r] * values[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      // Not through memory: an accumulator whose address is taken does not stay in a register.
      using Wide = Vector<double, lanes<T>>;
      double* const target = tile + r * width + v * lanes<T>;
      store(target, load<Wide>(target) + __builtin_convertvector(sums[r][v], Wide));
    }
  }
}

// One pair of panels: the strip of `left_panel` that holds real columns against the needed vectors of `right_panel`.
template <class T>
void gram_tile(const void* packed, std::int64_t row_count, std::int64_t columns, std::int64_t left_panel,
               std::int64_t right_panel, double* tile) {
  constexpr int width = panel_width<T>;
  constexpr int rows = tile_rows<T>;
  const T* const left = static_cast<const T*>(packed) + left_panel * row_count * width;
  const T* const right = static_cast<const T*>(packed) + right_panel * row_count * width;
  for (int first = 0; first < width && left_panel * width + first < columns; first += rows) {
    // On the diagonal only the columns up to the last row of the strip are below it.
    const int needed = left_panel == right_panel ? first + rows : width;
    const int vectors = (needed + lanes<T> - 1) / lanes<T>;
    double* const strip = tile + first * width;
    if (vectors == 1) {
      accumulate_tile<T, rows, 1>(row_count, left + first, right, strip);
    } else if (vectors == 2) {
      accumulate_tile<T, rows, 2>(row_count, left + first, right, strip);
    } else {
      accumulate_tile<T, rows, panel_vectors>(row_count, left + first, right, strip);
    }
  }
}

// cross[t][c] += sum over rows of targets[k][t] * packed[k][c], for up to four targets, all in float64.
template <class T, int count>
NRC_FAST_INLINE void cross_strip(std::int64_t row_count, const T* features, const double* targets,
                                 std::int64_t target_stride, double* cross, std::int64_t cross_stride) {
  constexpr int width = panel_width<T>;
  constexpr int N = lanes<double>;
  Native<double> sums[count][panel_vectors] = {};
  for (std::int64_t k = 0; k < row_count; ++k, features += width, targets += target_stride) {
#pragma GCC unroll 3
    for (int v = 0; v < panel_vectors; ++v) {
      const auto value = widen(load<Vector<T, N>>(features + v * N));
#pragma GCC unroll 4
      for (int t = 0; t < count; ++t) sums[t][v] += targets[t] * value;
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < count; ++t) {
#pragma GCC unroll 3
    for (int v = 0; v < panel_vectors; ++v) {
      double* const target = cross + t * cross_stride + v * N;
      store(target, load<Native<double>>(target) + sums[t][v]);
    }
  }
}

template <class T>
void cross_moments(const CrossArguments& task) {
  constexpr int width = panel_width<T>;
  constexpr int chunk = panel_vectors * lanes<double>;
  for (std::int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    for (int offset = 0; offset < width; offset += chunk) {
      const T* const features = static_cast<const T*>(task.packed) + panel * task.row_count * width + offset;
      double* const cross = task.cross + panel * width + offset;
      std::int64_t t = 0;
      for (; t + 4 <= task.target_count; t += 4) {
        cross_strip<T, 4>(task.row_count, features, task.targets + t, task.target_count, cross + t * task.cross_stride,
                          task.cross_stride);
      }
      for (; t < task.target_count; ++t) {
        cross_strip<T, 1>(task.row_count, features, task.targets + t, task.target_count, cross + t * task.cross_stride,
                          task.cross_stride);
      }
    }
  }
}

template <class T>
constexpr GramKernels gram_kernels_of() {
  GramKernels kernels = {};
  kernels.panel_width = panel_width<T>;
  kernels.element_size = sizeof(T);
  if constexpr (is_same<T, double>) kernels.pack[static_cast<int>(DType::float64)] = pack<T, double>;
  kernels.pack[static_cast<int>(DType::float32)] = pack<T, float>;
  kernels.pack[static_cast<int>(DType::float16)] = pack<T, Float16>;
  kernels.pack[static_cast<int>(DType::bfloat16)] = pack<T, BFloat16>;
  kernels.tile = gram_tile<T>;
  kernels.cross = cross_moments<T>;
  return kernels;
}

const RowKernels& row_kernels() {
  static constexpr RowKernels kernels = {
      {row_norms<double>, row_norms<float>, row_norms<Float16>, row_norms<BFloat16>},
      {count_rows<double>, count_rows<float>, count_rows<Float16>, count_rows<BFloat16>},
  };
  return kernels;
}

const GramKernels& gram_float32() {
  static constexpr GramKernels kernels = gram_kernels_of<float>();
  return kernels;
}

const GramKernels& gram_float64() {
  static constexpr GramKernels kernels = gram_kernels_of<double>();
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
