// Products of outputs of one instruction set: of two arrays of numbers of rows, summed over these.
#pragma once

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

// Outputs on the right of a tile, whose sums are added up across lanes together.
constexpr int tile_columns = 4;

// Sums of `rows` outputs with four. Beyond the last output it comes again, and is written again.
template <int rows>
NRC_FAST_INLINE void output_tile(const OutputArguments& task, std::int64_t left, std::int64_t right) {
  constexpr int N = lanes<double>;
  const std::int64_t last = task.outputs - 1;
  const double* of_rows[rows];
  const double* of_columns[tile_columns];
#pragma GCC unroll 4
  for (int a = 0; a < rows; ++a) of_rows[a] = task.left + (left + a < last ? left + a : last) * task.stride;
#pragma GCC unroll 4
  for (int b = 0; b < tile_columns; ++b) {
    of_columns[b] = task.right + (right + b < last ? right + b : last) * task.stride;
  }
  Native<double> sums[rows][tile_columns] = {};
  for (std::int64_t r = 0; r < task.padded_count; r += N) {
    Native<double> values[tile_columns];
#pragma GCC unroll 4
    for (int b = 0; b < tile_columns; ++b) values[b] = load<Native<double>>(of_columns[b] + r);
#pragma GCC unroll 4
    for (int a = 0; a < rows; ++a) {
      const auto value = load<Native<double>>(of_rows[a] + r);
#pragma GCC unroll 4
      for (int b = 0; b < tile_columns; ++b) sums[a][b] += value * values[b];
    }
  }
#pragma GCC unroll 4
  for (int a = 0; a < rows; ++a) {
    const auto found = horizontal_sums<double>(sums[a][0], sums[a][1], sums[a][2], sums[a][3]);
    double* const target = task.products + (left + a < last ? left + a : last) * task.outputs;
#pragma GCC unroll 4
    for (int b = 0; b < tile_columns; ++b) target[right + b < last ? right + b : last] = found[b];
  }
}

NRC_FAST_INLINE double sum_of_squares(const double* values, std::int64_t count) {
  constexpr int N = lanes<double>;
  Native<double> sum = {};
  for (std::int64_t r = 0; r < count; r += N) {
    const auto value = load<Native<double>>(values + r);
    sum += value * value;
  }
  return horizontal_sum<double, N>(sum);
}

void multiply_outputs(const OutputArguments& task) {
  // As many as leave registers for what is multiplied.
  constexpr int rows = vector_registers == 32 ? 4 : 2;
  for (std::int64_t left = 0; left < task.outputs; left += rows) {
    for (std::int64_t right = 0; right < task.outputs; right += tile_columns) output_tile<rows>(task, left, right);
  }
  double squares = 0.0;
  for (std::int64_t t = 0; t < task.outputs; ++t) {
    squares += sum_of_squares(task.right + t * task.stride, task.padded_count);
  }
  task.products[task.outputs * task.outputs] = squares;
}

}  // namespace nrc_fast::NRC_FAST_ISA
