// The Gram kernel of one instruction set: everything about rows that the drivers call.
//
// A block of rows is packed once into panels of `panel_width` columns, [panel][row][column], converted, shifted
// and scaled on the way. For one row of a panel the columns are contiguous, so the same panel serves both
// operands of the product: whole vectors of it are the right operand, single values broadcast are the left one.
#pragma once

#include "cpu/gram/pack.h"
#include "cpu/gram/tile.h"

namespace nrc_fast::NRC_FAST_ISA {

template <class Row, bool shifted>
NRC_FAST_INLINE double row_energy(const Row* row, const double* shift, std::int64_t columns) {
  constexpr int N = lanes<double>;
  constexpr int chains = 4;
  Native<double> energies[chains] = {};
  const auto add = [&](Native<double> value, std::int64_t c, int chain) __attribute__((always_inline)) {
    if constexpr (shifted) value -= load<Native<double>>(shift + c);
    energies[chain] += value * value;
  };
  std::int64_t c = 0;
  for (; c + chains * N <= columns; c += chains * N) {
#pragma GCC unroll 4
    for (int i = 0; i < chains; ++i) add(load_rows_as<double>(row + c + i * N), c + i * N, i);
  }
  for (; c + N <= columns; c += N) add(load_rows_as<double>(row + c), c, 0);
  if (c < columns) add(load_partial_as<double>(row + c, columns - c), c, 0);
  return horizontal_sum<double, N>((energies[0] + energies[1]) + (energies[2] + energies[3]));
}

template <class Row>
void row_norms(const NormArguments& task) {
  constexpr double smallest_safe = 0x1p-900;
  constexpr double largest_safe = 0x1p900;
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    const Row* const row = static_cast<const Row*>(task.rows) + r * task.row_stride;
    const double total = task.shift != nullptr ? row_energy<Row, true>(row, task.shift, task.columns)
                                               : row_energy<Row, false>(row, nullptr, task.columns);
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

template <class T>
constexpr GramKernels gram_kernels_of() {
  GramKernels kernels = {};
  kernels.panel_width = panel_width<T>;
  kernels.panel_step = panel_step<T>;
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
