// Sums of one warp of float64 products on tensor cores, and how it reads its fragments from a stage.
#pragma once

#include "cuda/gram/double_ring.h"

namespace nrc_fast::cuda {

// The numbers of one lane in a step: of one row, in every eighth column.
struct LaneRow {
  const char* values;    // of the row, from the lane's first column on
  const double* shifts;  // the same
  double factor;         // 0: the row counts as zeros
  bool is_plain;         // no shift and no scale
};

template <class Row, int count>
NRC_FAST_DEVICE void read_fragments(const LaneRow& row, int column, double* fragments) {
  Row stored[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    stored[i] = *static_cast<const Row*>(
        static_cast<const void*>(row.values + (column + i * 8) * static_cast<int>(sizeof(Row))));
  }
#pragma unroll
  for (int i = 0; i < count; ++i) fragments[i] = as_double(stored[i]);
  if (row.is_plain) return;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const double value = (fragments[i] - row.shifts[column + i * 8]) * row.factor;
    fragments[i] = row.factor == 0.0 ? 0.0 : value;
  }
}

// The columns of a row that there are, at most 64, in strips; the others are zeros.
template <class Row>
NRC_FAST_DEVICE void read_strips(const char* values, int columns, double* fragments) {
  Row stored[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    stored[i] = Row{};
    if (i / 2 * strip < columns) {
      stored[i] = *static_cast<const Row*>(static_cast<const void*>(values + i * 8 * static_cast<int>(sizeof(Row))));
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) fragments[i] = as_double(stored[i]);
}

struct DoubleSums {
  static constexpr int count = double_sums;

  double strips[strip_products][4];
  double corners[corner_products][2];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < strip_products * 4; ++i) strips[i / 4][i % 4] = 0.0;
#pragma unroll
    for (int i = 0; i < corner_products * 2; ++i) corners[i / 2][i % 2] = 0.0;
  }

  template <bool is_triangle>
  NRC_FAST_DEVICE void add_strip(int i, const double* left, const double* right) {
    const int count = is_triangle ? 2 * i + 1 : 4;
#pragma unroll
    for (int j = 0; j < count; ++j) multiply_add(strips[strip_product(is_triangle, i, j)], left[0], left[1], right[j]);
    if constexpr (is_triangle) multiply_add(corners[i], left[1], left[1]);
  }

  // Columns are those on the left; all of 64 are read before the first product.
  template <class Row>
  NRC_FAST_DEVICE void add_triangle(const LaneRow& row, int first, int columns) {
    double values[8];
    if (columns > 3 * strip) {
      read_fragments<Row, 8>(row, first, values);
#pragma unroll
      for (int i = 0; i < 4; ++i) add_strip<true>(i, values + 2 * i, values);
      return;
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i * strip >= columns) break;
      read_fragments<Row, 2>(row, first + i * strip, values + 2 * i);
      add_strip<true>(i, values + 2 * i, values);
    }
  }
  template <class Row>
  NRC_FAST_DEVICE void add_rectangle(const LaneRow& row, int first, int columns, int right_first) {
    double right[4];
    double left[8];
    read_fragments<Row, 4>(row, right_first, right);
    if (columns > 3 * strip) {
      read_fragments<Row, 8>(row, first, left);
#pragma unroll
      for (int i = 0; i < 4; ++i) add_strip<false>(i, left + 2 * i, right);
      return;
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i * strip >= columns) break;
      read_fragments<Row, 2>(row, first + i * strip, left);
      add_strip<false>(i, left, right);
    }
  }

  // Calls `use(index, sum)` for the sums of the share, in the order of its slab.
  template <class Use>
  NRC_FAST_DEVICE void each(const DoubleShare& share, const Use& use) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i * strip >= share.columns) break;
      if (share.is_triangle) {
#pragma unroll
        for (int j = 0; j < 2 * i + 1; ++j) each_of_strip(strip_product(true, i, j), use);
        use(strip_products * 4 + i * 2, corners[i][0]);
        use(strip_products * 4 + i * 2 + 1, corners[i][1]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) each_of_strip(strip_product(false, i, j), use);
      }
    }
  }
  template <class Use>
  NRC_FAST_DEVICE void each_of_strip(int product, const Use& use) {
#pragma unroll
    for (int r = 0; r < 4; ++r) use(product * 4 + r, strips[product][r]);
  }
};

// Sums of the warps with the same products, added up in the memory that the stages no longer need; the first of them
// has the whole.
template <class Sums>
NRC_FAST_DEVICE void add_groups(Sums& sums, const DoubleShare& share, char* shared) {
  double* const place = static_cast<double*>(static_cast<void*>(shared)) + share.index * Sums::count * warp_lanes +
                        thread_index() % warp_lanes;
  for (int group = share.groups - 1; group > 0; --group) {
    synchronize_block();
    if (share.group == group) sums.each(share, [&](int i, double& sum) { place[i * warp_lanes] = sum; });
    synchronize_block();
    if (share.group == group - 1) sums.each(share, [&](int i, double& sum) { sum += place[i * warp_lanes]; });
  }
}

}  // namespace nrc_fast::cuda
