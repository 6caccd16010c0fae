// Sums over a few rows of coefficients times these rows.
#pragma once

#include "cpu/residual/project.h"

namespace nrc_fast::NRC_FAST_ISA {

// Sums of most_units and so many vectors of columns fit the registers.
constexpr int image_vectors = vector_registers == 32 ? 4 : 2;

template <int units, int vectors>
NRC_FAST_INLINE void image_tile(const ImageArguments& task, std::int64_t unit, std::int64_t column) {
  constexpr int N = lanes<double>;
  const double* loaded = task.loaded + column;
  const double* coefficients = task.coefficients + unit;
  Native<double> sums[units][vectors] = {};
  for (std::int64_t r = 0; r < task.row_count; ++r) {
    Native<double> values[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      values[v] = load<Native<double>>(loaded + v * N);
      keep_in_register(values[v]);
    }
#pragma GCC unroll 6
    for (int u = 0; u < units; ++u) {
      Native<double> coefficient = coefficients[u] - Native<double>{};
      keep_in_register(coefficient);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[u][v] += coefficient * values[v];
    }
    loaded += task.stride;
    coefficients += task.units;
  }
#pragma GCC unroll 6
  for (int u = 0; u < units; ++u) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      double* const target = task.image + (unit + u) * task.image_stride + column + v * N;
      store(target, load<Native<double>>(target) + sums[u][v]);
    }
  }
}

template <int units>
void add_image_of(const ImageArguments& task, std::int64_t unit, std::int64_t column) {
  constexpr int N = lanes<double>;
  if (column + (image_vectors - 1) * N < task.columns) return image_tile<units, image_vectors>(task, unit, column);
  for (; column < task.columns; column += N) image_tile<units, 1>(task, unit, column);
}

inline void add_images(const ImageArguments& task) {
  const UnitTiles tiles = tiles_of(task.units);
  for (std::int64_t column = 0; column < task.columns; column += image_vectors * lanes<double>) {
    for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
      const std::int64_t unit = tiles.first(tile);
      switch (tiles.size(tile)) {
        case 1:
          add_image_of<1>(task, unit, column);
          break;
        case 2:
          add_image_of<2>(task, unit, column);
          break;
        case 3:
          add_image_of<3>(task, unit, column);
          break;
        case 4:
          add_image_of<4>(task, unit, column);
          break;
        case 5:
          add_image_of<5>(task, unit, column);
          break;
        default:
          add_image_of<most_units>(task, unit, column);
      }
    }
  }
}

}  // namespace nrc_fast::NRC_FAST_ISA
