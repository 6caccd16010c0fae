// How the lanes of a warp hold rows for float64 products on tensor cores, straight from memory: a lane has eight values
// of a row, read 16 bytes at a time. Which columns these are does not matter to a sum over columns, and is undone where
// sums of columns are written.
#pragma once

#include "cuda/machine/device.h"
#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

constexpr int piece_values = 8;

template <class Row>
struct alignas(16) SixteenBytes {
  Row values[16 / sizeof(Row)];
};

// The column, from the first of those that `lanes` lanes share, of a value of a lane's piece. Those of an even value
// and of the next one are neighbours.
NRC_FAST_BOTH int piece_column(int values_at_once, int lanes, int lane, int value) {
  return (value / values_at_once * lanes + lane) * values_at_once + value % values_at_once;
}

template <class Row>
struct RowPiece {
  static constexpr int at_once = 16 / static_cast<int>(sizeof(Row));
  static constexpr int loads = piece_values / at_once;
  static_assert(at_once % 2 == 0);

  SixteenBytes<Row> parts[loads];

  NRC_FAST_DEVICE Row value(int index) const { return parts[index / at_once].values[index % at_once]; }

  // Values of columns from `columns` on, counted from the first that the lanes share, become zeros.
  template <int lanes>
  NRC_FAST_DEVICE void clear_from(std::int64_t columns, int lane) {
#pragma unroll
    for (int v = 0; v < piece_values; ++v) {
      if (piece_column(at_once, lanes, lane, v) >= columns) parts[v / at_once].values[v % at_once] = Row{};
    }
  }

  // Reads columns from `first` on, of which the last stands for those beyond it.
  template <int lanes>
  NRC_FAST_DEVICE void load(const MatrixView& rows, const Row* row, std::int64_t first, int lane, bool is_aligned) {
    if (is_aligned) {
#pragma unroll
      for (int i = 0; i < loads; ++i) {
        const std::int64_t column = first + (i * lanes + lane) * at_once;
        const std::int64_t last = rows.columns - at_once;
        parts[i] = *reinterpret_cast<const SixteenBytes<Row>*>(row + (column < last ? column : last));
      }
      return;
    }
#pragma unroll
    for (int v = 0; v < piece_values; ++v) {
      const std::int64_t column = first + piece_column(at_once, lanes, lane, v);
      const std::int64_t last = rows.columns - 1;
      parts[v / at_once].values[v % at_once] = row[(column < last ? column : last) * rows.column_stride];
    }
  }
};

// Whether pieces can be read 16 bytes at a time.
template <class Row>
bool has_aligned_pieces(const MatrixView& rows) {
  constexpr std::int64_t at_once = RowPiece<Row>::at_once;
  return rows.column_stride == 1 && rows.columns % at_once == 0 && rows.row_stride % at_once == 0 &&
         reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

// Numbers that belong to the values of a piece, of an array whose address and first column 16 bytes divide.
template <class Row, int lanes>
NRC_FAST_DEVICE void load_beside(const double* numbers, int lane, double (&values)[piece_values]) {
#pragma unroll
  for (int v = 0; v < piece_values; v += 2) {
    const int column = piece_column(RowPiece<Row>::at_once, lanes, lane, v);
    const auto pair = *reinterpret_cast<const SixteenBytes<double>*>(numbers + column);
    values[v] = pair.values[0];
    values[v + 1] = pair.values[1];
  }
}

// Adds an 8 x 4 times 4 x 8 product of float64 numbers, by tensor cores or, where there are none for float64, by lanes.
template <bool by_tensor_cores>
NRC_FAST_DEVICE void add_product(double (&sums)[2], double left, double right) {
  if constexpr (by_tensor_cores) {
    multiply_add(sums, left, right);
  } else {
    const int lane = thread_index() % warp_lanes;
    const TileElement first = double_accumulator_element(lane, 0);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const double a = shuffle_from(left, first.row * 4 + k);
      sums[0] += a * shuffle_from(right, first.column * 4 + k);
      sums[1] += a * shuffle_from(right, (first.column + 1) * 4 + k);
    }
  }
}

}  // namespace nrc_fast::cuda
