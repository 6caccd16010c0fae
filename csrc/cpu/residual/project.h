// Coefficients c = U x of rows that are loaded, and what tiles of rows and units are.
//
// What a row is multiplied with are units: the row itself, whose product is its square, and behind it the vectors.
#pragma once

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

// Rows at a time, so that the sums of them and of most_units fit the registers.
constexpr int rows_together = vector_registers == 32 ? 4 : 2;

// Units in nearly equal tiles.
struct UnitTiles {
  std::int64_t units;
  std::int64_t count;
  std::int64_t first(std::int64_t tile) const { return tile * units / count; }
  int size(std::int64_t tile) const { return static_cast<int>(first(tile + 1) - first(tile)); }
};

NRC_FAST_INLINE UnitTiles tiles_of(std::int64_t units) { return {units, (units + most_units - 1) / most_units}; }

NRC_FAST_INLINE UnitTiles unit_tiles(std::int64_t vector_count) { return tiles_of(1 + vector_count); }

// Memory of the rows to come that is fetched with a tile: a share of `rows_together` of them.
struct RowsToCome {
  const char* rows;
  std::int64_t stride;
  std::int64_t stored_size;
  std::int64_t first;  // byte of each row
  std::int64_t last;

  // What lies at the columns that are computed with: the share comes evenly while these pass it.
  NRC_FAST_INLINE void fetch(std::int64_t column) const {
    const std::int64_t byte = column * stored_size;
    if (byte < first || byte >= last) return;
#pragma GCC unroll 4
    for (int r = 0; r < rows_together; ++r) __builtin_prefetch(rows + r * stride + byte);
  }
};

NRC_FAST_INLINE RowsToCome rows_to_come(const ProjectArguments& task, std::int64_t row, std::int64_t tile) {
  const std::int64_t stride = task.row_stride * task.stored_size;
  const std::int64_t first = (task.first_share + tile) * task.share_bytes;
  return {static_cast<const char*>(task.rows) + (row + task.rows_ahead) * stride, stride, task.stored_size, first,
          first + task.share_bytes};
}

// Sums of one unit for some rows, or of two units for two rows each, one after the other.
template <class T, int units>
NRC_FAST_INLINE void store_sums(const Native<T> (&sums)[rows_together][units], T* target, std::int64_t unit_stride) {
  if constexpr (rows_together == 4) {
#pragma GCC unroll 6
    for (int u = 0; u < units; ++u) {
      store(target + u * unit_stride, horizontal_sums<T>(sums[0][u], sums[1][u], sums[2][u], sums[3][u]));
    }
  } else {
#pragma GCC unroll 3
    for (int u = 0; u < units; u += 2) {
      const int next = u + 1 < units ? u + 1 : u;
      const auto found = horizontal_sums<T>(sums[0][u], sums[1][u], sums[0][next], sums[1][next]);
      target[u * unit_stride] = found[0];
      target[u * unit_stride + 1] = found[1];
      if (next == u) break;
      target[next * unit_stride] = found[2];
      target[next * unit_stride + 1] = found[3];
    }
  }
}

// Adds what some columns of `rows_together` rows give with each of the vectors.
template <class T, int first, int units>
NRC_FAST_INLINE void add_products(Native<T> (&sums)[rows_together][units], const T* vectors, std::int64_t stride,
                                  const Native<T> (&values)[rows_together]) {
#pragma GCC unroll 6
  for (int u = first; u < units; ++u) {
    auto direction = load<Native<T>>(vectors + (u - first) * stride);
    keep_in_register(direction);
#pragma GCC unroll 4
    for (int r = 0; r < rows_together; ++r) sums[r][u] += values[r] * direction;
  }
}

// Some vectors, behind those that loading has multiplied with.
template <class T, int count>
NRC_FAST_INLINE void project_tile(const ProjectArguments& task, std::int64_t row, std::int64_t vector,
                                  const RowsToCome& ahead) {
  const std::int64_t stride = task.stride;
  const T* const loaded = static_cast<const T*>(task.loaded) + row * stride;
  const T* const vectors = static_cast<const T*>(task.vectors) + vector * stride;
  Native<T> sums[rows_together][count] = {};
  for (std::int64_t c = 0; c < task.padded_columns; c += lanes<T>) {
    Native<T> values[rows_together];
#pragma GCC unroll 4
    for (int r = 0; r < rows_together; ++r) values[r] = load<Native<T>>(loaded + r * stride + c);
    ahead.fetch(c);
    add_products<T, 0>(sums, vectors + c, stride, values);
  }
  store_sums<T>(sums, static_cast<T*>(task.coefficients) + vector * task.padded_rows + row, task.padded_rows);
}

// Of all rows that are loaded, so that the vectors of a tile stay in the first-level cache.
template <class T, int count>
void project_rows(const ProjectArguments& task, std::int64_t tile, std::int64_t vector) {
  for (std::int64_t row = 0; row < task.row_count; row += rows_together) {
    project_tile<T, count>(task, row, vector, rows_to_come(task, row, tile));
  }
}

// Tiles behind the first have three units at least.
template <class T>
void project_behind_first(const ProjectArguments& task) {
  const UnitTiles tiles = unit_tiles(task.vector_count);
  for (std::int64_t tile = 1; tile < tiles.count; ++tile) {
    const std::int64_t vector = tiles.first(tile) - 1;
    switch (tiles.size(tile)) {
      case 3:
        project_rows<T, 3>(task, tile, vector);
        break;
      case 4:
        project_rows<T, 4>(task, tile, vector);
        break;
      case 5:
        project_rows<T, 5>(task, tile, vector);
        break;
      default:
        project_rows<T, most_units>(task, tile, vector);
    }
  }
}

}  // namespace nrc_fast::NRC_FAST_ISA
