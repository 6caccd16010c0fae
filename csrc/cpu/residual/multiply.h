// A few rows and a block of their columns, in float64, against a few vectors: products of each row with the vectors
// while the rows are loaded, and of these products with the rows.
#pragma once

#include "cpu/residual/image.h"
#include "cpu/residual/project.h"

namespace nrc_fast::NRC_FAST_ISA {

// Tiles whose block of vectors stays in the first-level cache beside the rows.
constexpr int cached_tiles = 2;
// Columns of all rows of a group that stay in it while the image is added.
constexpr std::int64_t image_columns = 64;
// How far ahead of a row another one is fetched.
constexpr std::int64_t rows_fetched_ahead = 4;

static_assert(product_rows % rows_together == 0 && product_rows % rows_fetched_ahead == 0);

template <int units>
NRC_FAST_INLINE void add_coefficients(const ProductArguments& task, std::int64_t row, std::int64_t first,
                                      const Native<double> (&sums)[rows_together][units]) {
#pragma GCC unroll 4
  for (int r = 0; r < rows_together; ++r) {
    double* const target = task.coefficients + (row + r) * (1 + task.vector_count) + first;
    const Native<double> zero = {};
    const auto leading = horizontal_sums<double>(sums[r][0], units > 1 ? sums[r][units > 1 ? 1 : 0] : zero,
                                                 units > 2 ? sums[r][units > 2 ? 2 : 0] : zero,
                                                 units > 3 ? sums[r][units > 3 ? 3 : 0] : zero);
#pragma GCC unroll 4
    for (int u = 0; u < (units < 4 ? units : 4); ++u) target[u] += leading[u];
    if constexpr (units > 4) {
      const auto rest = horizontal_sums<double>(sums[r][4], units > 5 ? sums[r][units - 1] : zero, zero, zero);
#pragma GCC unroll 2
      for (int u = 4; u < units; ++u) target[u] += rest[u - 4];
    }
  }
}

// Adds what the columns from `column` on give; the row itself is the first unit where it is one.
template <int units, bool with_square>
NRC_FAST_INLINE void multiply(Native<double> (&sums)[rows_together][units], const double* directions,
                              const Native<double> (&values)[rows_together]) {
  if constexpr (with_square) {
#pragma GCC unroll 4
    for (int r = 0; r < rows_together; ++r) sums[r][0] += values[r] * values[r];
  }
  add_products<double, with_square ? 1 : 0>(sums, directions, product_columns, values);
}

// Where rows of a block are loaded to: one after the other where they are kept, else all to one place.
NRC_FAST_INLINE double* place_of(const ProductArguments& task, std::int64_t row) {
  return task.loaded + (task.keeps_rows ? row * product_stride : 0);
}

// Rows that are loaded, against `units` vectors.
template <int units>
void multiply_loaded(const ProductArguments& task, std::int64_t row, std::int64_t unit) {
  const double* const loaded = place_of(task, row);
  const double* const directions = task.vectors + (unit - 1) * product_columns;
  Native<double> sums[rows_together][units] = {};
  for (std::int64_t c = 0; c < task.columns; c += lanes<double>) {
    Native<double> values[rows_together];
#pragma GCC unroll 4
    for (int r = 0; r < rows_together; ++r) values[r] = load<Native<double>>(loaded + r * product_stride + c);
    multiply<units, false>(sums, directions + c, values);
  }
  add_coefficients<units>(task, row, unit, sums);
}

// Loads some rows, the last one again where there are fewer, and multiplies them with the leading units.
template <class Row, int units>
void load_and_multiply(const ProductArguments& task, std::int64_t first, double* target) {
  constexpr int N = lanes<double>;
  constexpr int rows = rows_together;
  constexpr std::int64_t line = 64 / sizeof(Row);
  const Row* source[rows];
  std::int64_t ahead[rows];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = first + r < task.row_count ? first + r : task.row_count - 1;
    source[r] = static_cast<const Row*>(task.rows) + row * task.row_stride;
    const std::int64_t next = row + rows_fetched_ahead;
    ahead[r] = rows_fetched_ahead * task.row_stride +
               (next < task.row_count ? 0 : task.ahead - task.row_count * task.row_stride);
  }
  Native<double> sums[rows][units > 0 ? units : 1] = {};  // NOLINT: constant only where there are no units
  const auto add = [&](std::int64_t c, const Native<double>(&loaded)[rows]) __attribute__((always_inline)) {
    Native<double> values[rows];
    const auto shift = load<Native<double>>(task.shift + c);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      values[r] = loaded[r] - shift;
      store(target + r * product_stride + c, values[r]);
    }
    if constexpr (units > 0) multiply<units, true>(sums, task.vectors + c, values);
  };
  std::int64_t c = 0;
  for (; c + N <= task.columns; c += N) {
    Native<double> loaded[rows];
    if (c % line == 0) {
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) __builtin_prefetch(source[r] + ahead[r] + c);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) loaded[r] = load_rows_as<double>(source[r] + c);
    add(c, loaded);
  }
  if (c < task.columns) {
    Native<double> loaded[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) loaded[r] = load_partial_as<double>(source[r] + c, task.columns - c);
    add(c, loaded);
  }
  if constexpr (units > 0) add_coefficients<units>(task, first, 0, sums);
}

template <class Row>
NRC_FAST_INLINE void load_tile(const ProductArguments& task, std::int64_t row, int units) {
  switch (units) {
    case 1:
      return load_and_multiply<Row, 1>(task, row, place_of(task, row));
    case 2:
      return load_and_multiply<Row, 2>(task, row, place_of(task, row));
    case 3:
      return load_and_multiply<Row, 3>(task, row, place_of(task, row));
    case 4:
      return load_and_multiply<Row, 4>(task, row, place_of(task, row));
    case 5:
      return load_and_multiply<Row, 5>(task, row, place_of(task, row));
    default:
      return load_and_multiply<Row, most_units>(task, row, place_of(task, row));
  }
}

// Tiles behind the first have three units at least.
NRC_FAST_INLINE void multiply_tile(const ProductArguments& task, std::int64_t row, std::int64_t unit, int units) {
  switch (units) {
    case 3:
      return multiply_loaded<3>(task, row, unit);
    case 4:
      return multiply_loaded<4>(task, row, unit);
    case 5:
      return multiply_loaded<5>(task, row, unit);
    default:
      return multiply_loaded<most_units>(task, row, unit);
  }
}

// Adds a block's part of the coefficients. Rows that are not kept are loaded anew for every few tiles.
template <class Row>
void multiply_block(const ProductArguments& task) {
  const UnitTiles tiles = unit_tiles(task.vector_count);
  for (std::int64_t first = 0; first < tiles.count; first += cached_tiles) {
    const std::int64_t last = first + cached_tiles < tiles.count ? first + cached_tiles : tiles.count;
    for (std::int64_t row = 0; row < task.row_count; row += rows_together) {
      if (first == 0) {
        load_tile<Row>(task, row, tiles.size(0));
      } else if (!task.keeps_rows) {
        load_and_multiply<Row, 0>(task, row, place_of(task, row));
      }
      for (std::int64_t tile = first == 0 ? 1 : first; tile < last; ++tile) {
        multiply_tile(task, row, tiles.first(tile), tiles.size(tile));
      }
    }
  }
}

// Adds the image of the rows that lie at `loaded`.
inline void add_image_of_loaded(const ProductArguments& task) {
  add_images({task.loaded, product_stride, task.row_count, task.columns, task.coefficients, 1 + task.vector_count,
              task.image, product_columns});
}

template <class Row>
void add_image(const ProductArguments& task) {
  if (task.keeps_rows) return add_image_of_loaded(task);
  for (std::int64_t column = 0; column < task.columns; column += image_columns) {
    const std::int64_t left = task.columns - column;
    ProductArguments part = task;
    part.rows = static_cast<const Row*>(task.rows) + column;
    part.columns = left < image_columns ? left : image_columns;
    part.ahead = left <= image_columns ? task.ahead - column : image_columns;
    part.shift = task.shift + column;
    part.image = task.image + column;
    for (std::int64_t row = 0; row < task.row_count; row += rows_together) {
      load_and_multiply<Row, 0>(part, row, part.loaded + row * product_stride);
    }
    add_image_of_loaded(part);
  }
}

template <class Row>
constexpr void add_product_kernels(ProductKernels& kernels, DType dtype) {
  kernels.multiply[static_cast<int>(dtype)] = multiply_block<Row>;
  kernels.add_image[static_cast<int>(dtype)] = add_image<Row>;
}

const ProductKernels& product_kernels() {
  static constexpr ProductKernels kernels = [] {
    ProductKernels filled = {};
    add_product_kernels<double>(filled, DType::float64);
    add_product_kernels<float>(filled, DType::float32);
    add_product_kernels<Float16>(filled, DType::float16);
    add_product_kernels<BFloat16>(filled, DType::bfloat16);
    return filled;
  }();
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
