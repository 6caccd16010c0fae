// How float64 products on tensor cores are shared out: to items of the plan, of about as much work each, and within an
// item to four warps. Host and device.
//
// A Gram matrix of at most 64 columns is one item, the lower triangle of 64 x 64, and the warps take turns at its rows:
// each of them then has every number of a row once, in registers. Of more columns each 128 have one item with every 64
// columns before them, 128 x 64, and one of their own lower triangle.
#pragma once

#include <cstdint>

#include "common/portable.h"
#include "cuda/machine/fragments.h"

namespace nrc_fast {

constexpr int narrow_columns = 64;
constexpr int wide_columns = 128;
constexpr int double_warps = 4;
constexpr int strip = 16;  // columns on the left of one product
// Products of 16 x 8 that a warp forms at most, and of 8 x 8 where a strip meets the diagonal.
constexpr int strip_products = 16;
constexpr int corner_products = 4;
constexpr int double_sums = strip_products * 4 + corner_products * 2;

struct DoubleItem {
  std::int64_t left;   // its first column on the left
  std::int64_t right;  // and on the right; of a triangle the same
  int columns;         // on the left, at most 128; on the right of one that is no triangle there are 64
  bool is_triangle;
};

NRC_FAST_BOTH std::int64_t double_item_count(std::int64_t columns) {
  const std::int64_t strips = (columns + wide_columns - 1) / wide_columns;
  return strips * strips;
}

// Of so manieth 128 columns with themselves.
NRC_FAST_BOTH std::int64_t triangle_item(std::int64_t strip_index) {
  return strip_index * strip_index + 2 * strip_index;
}

NRC_FAST_BOTH DoubleItem double_item(std::int64_t index, std::int64_t columns) {
  std::int64_t low = 0;
  std::int64_t high = std::int64_t{1} << 31;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (middle * middle <= index ? low : high) = middle;
  }
  const std::int64_t place = index - low * low;
  const std::int64_t left = low * wide_columns;
  const std::int64_t count = columns - left < wide_columns ? columns - left : wide_columns;
  const bool is_triangle = place == 2 * low;
  return {left, is_triangle ? left : place * narrow_columns, static_cast<int>(count), is_triangle};
}

// What a warp does in an item. On the left are up to 64 columns, in strips of 16; on the right are 32, or for a
// triangle the same.
struct DoubleShare {
  int index;         // its place in the slab
  int group;         // of the warps with the same products, which take turns at the rows
  int groups;        // how many these are
  int left;          // first column among those of the item on the left
  int right;         // first column on the right, where those of the item that is no triangle begin at 128
  int columns;       // on the left; none or less: nothing to do
  bool is_triangle;  // then of the columns on the left with themselves
};

NRC_FAST_BOTH DoubleShare double_share(const DoubleItem& item, int warp) {
  const bool is_tall = item.columns > narrow_columns;
  const int shares = is_tall ? 4 : (item.is_triangle ? 1 : 2);
  const int groups = double_warps / shares;
  const int index = warp / groups;
  const int group = warp % groups;
  if (item.is_triangle) {
    const int left = index == 0 ? 0 : narrow_columns;
    const int right = index < 2 ? left : (index - 2) * 32;
    const int count = item.columns - left < narrow_columns ? item.columns - left : narrow_columns;
    return {index, group, groups, left, right, count, index < 2};
  }
  const int left = is_tall ? index / 2 * narrow_columns : 0;
  const int count = item.columns - left < narrow_columns ? item.columns - left : narrow_columns;
  return {index, group, groups, left, wide_columns + index % 2 * 32, count, false};
}

// The product of strip i with 8 columns j on the right: those of a triangle are of its lower half.
NRC_FAST_BOTH int strip_product(bool is_triangle, int i, int j) { return (is_triangle ? i : 4) * i + j; }

// Lanes that each have double_sums numbers in a slab.
NRC_FAST_BOTH int slab_lanes(std::int64_t columns) {
  return columns <= narrow_columns ? warp_lanes : double_warps * warp_lanes;
}

// The element of the Gram matrix that a number of a slab belongs to; of the numbers that no warp has, one outside of
// the matrix.
NRC_FAST_BOTH TileElement element_of_share(const DoubleShare& share, int lane, int sum) {
  if (sum >= strip_products * 4) {
    if (!share.is_triangle) return {-1, -1};
    const TileElement inner = double_accumulator_element(lane, sum % 2);
    const int corner = (sum - strip_products * 4) / 2 * strip + 8;
    return {corner + inner.row, corner + inner.column};
  }
  const int product = sum / 4;
  int i = product / 4;
  int j = product % 4;
  if (share.is_triangle) {
    i = product < 1 ? 0 : (product < 4 ? 1 : (product < 9 ? 2 : 3));
    j = product - i * i;
  }
  const TileElement inner = double_accumulator_element(lane, sum % 2);
  return {i * strip + sum / 2 % 2 * 8 + inner.row, j * 8 + inner.column};
}

// Where one read of at most 64 columns forms all moments there are 8 columns more, the extra ones: targets, and behind
// them ones. Two pairs of warps take turns at the rows. One warp of a pair has the first strip of the triangle and the
// last, the other those between, which are as many products, and each of them its strips with the extra columns.
constexpr int extra_columns = 8;
constexpr int moment_products = 8;
constexpr int moment_sums = moment_products * 4 + 2 * 2 + 2 * 4 + 2;
constexpr int moment_lanes = 2 * warp_lanes;
constexpr int moment_values = moment_sums * moment_lanes;  // of a slab

// The strip of a warp's product, and its columns on the right.
struct MomentProduct {
  int strip;
  int column;  // in units of 8
};
NRC_FAST_BOTH int moment_strip(int share, int which) { return share == 0 ? which * 3 : 1 + which; }
NRC_FAST_BOTH MomentProduct moment_product(int share, int product) {
  const int of_first = 2 * moment_strip(share, 0) + 1;
  const int which = product < of_first ? 0 : 1;
  return {moment_strip(share, which), which == 0 ? product : product - of_first};
}

// The element of the moments that a sum belongs to; the extra columns follow the 64. (-1, -1): none.
NRC_FAST_BOTH TileElement moment_element(int share, int lane, int sum) {
  const TileElement inner = double_accumulator_element(lane, sum % 2);
  const int lower = sum / 2 % 2 * 8;
  if (sum < moment_products * 4) {
    const MomentProduct product = moment_product(share, sum / 4);
    return {product.strip * strip + lower + inner.row, product.column * 8 + inner.column};
  }
  int left = sum - moment_products * 4;
  if (left < 2 * 2) {
    const int corner = moment_strip(share, left / 2) * strip + 8;
    return {corner + inner.row, corner + inner.column};
  }
  left -= 2 * 2;
  if (left < 2 * 4) {
    return {narrow_columns + inner.column, moment_strip(share, left / 4) * strip + lower + inner.row};
  }
  if (share > 0) return {-1, -1};
  return {narrow_columns + inner.row, narrow_columns + inner.column};
}

struct GramElement {
  std::int64_t row;
  std::int64_t column;
};

NRC_FAST_BOTH GramElement double_slab_element(std::int64_t tile, std::int64_t columns, int index) {
  const int lanes = slab_lanes(columns);
  const DoubleItem item = double_item(tile, columns);
  const int place = index % lanes / warp_lanes;
  // The first warp of those with the same products.
  const int groups = double_share(item, 0).groups;
  if (place * groups >= double_warps) return {-1, -1};
  const DoubleShare share = double_share(item, place * groups);
  const TileElement element = element_of_share(share, index % warp_lanes, index / lanes);
  if (element.row < 0 || element.row >= share.columns) return {-1, -1};
  const std::int64_t right = item.is_triangle ? item.right + share.right : item.right + share.right - wide_columns;
  return {item.left + share.left + element.row, right + element.column};
}

}  // namespace nrc_fast
