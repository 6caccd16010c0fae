// Coefficients c = U x of rows that are loaded.
#pragma once

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

// Vectors whose coefficients are computed while the rows are loaded.
constexpr int leading_vectors = 4;

// Rows at a time, so that the sums fit the registers and hide the latency of the products.
constexpr int projected_rows = vector_registers == 32 ? 4 : 3;

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

}  // namespace nrc_fast::NRC_FAST_ISA
