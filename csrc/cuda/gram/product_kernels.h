// The kernels of a Gram product. Coefficients c = V x of every row come first, then the image, the sum of c x^T; both
// are float64 products on tensor cores whose rows go from memory into registers, 64 bytes or more a lane on their way
// while others are used. Vectors and coefficients lie in memory as the lanes read them.
#pragma once

#include "common/arithmetic.h"
#include "cuda/gram/product.h"
#include "cuda/gram/row_pieces.h"
#include "cuda/gram/work_plan.h"

namespace nrc_fast::cuda {

constexpr int product_warps = 4;
constexpr int product_block = product_warps * warp_lanes;
// Columns of a row that the lanes of a coefficient, or of the image, hold at a time: four lanes, or eight, share a row.
constexpr int coefficient_lanes = 4;
constexpr int coefficient_columns = coefficient_lanes * piece_values;
constexpr int image_lanes = 8;
constexpr int image_columns = image_lanes * piece_values;
constexpr int group_rows = 4;  // whose products with the coefficients one instruction adds
// Rows that an accumulator of the image is a sum of before it goes to memory.
constexpr int fold_rows = 512;
constexpr int energy_parts = 256;

// Tiles of eight rows that a warp works on: what it has read of the vectors serves all of them.
template <class Row, int tiles>
constexpr int row_tiles = sizeof(Row) == 8 || tiles >= most_tiles ? 2 : 4;
template <class Row, int tiles>
constexpr int coefficient_rows = product_warps * 8 * row_tiles<Row, tiles>;
constexpr int padded_block_rows = product_warps * 8 * 4;

struct ProductArguments {
  MatrixView features;
  bool is_aligned;
  const double* vectors;  // a group of them, in fragments
  const double* shift;    // padded with zeros
  std::int64_t column_parts;
  std::int64_t padded_rows;
  double* coefficients;  // column parts x padded rows x vectors, in fragments
  double* energies;      // a number for each warp
  unsigned char* flags;  // column parts x padded rows
  std::int64_t row_parts;
  std::int64_t padded_columns;
  std::int64_t units;  // vectors, and one more for the sums of the rows
  std::int64_t first_unit;
  std::int64_t group_vectors;
  CompensatedSum* image;  // row parts x units x padded columns
};

constexpr unsigned char is_filled = 1;
constexpr unsigned char is_bad = 2;

// Of a group of four rows and a tile of vectors the 32 coefficients lie one after the other, as lanes hold them on the
// left of a product.
template <int tiles>
NRC_FAST_BOTH std::int64_t coefficient_place(std::int64_t row, int tile, int vector) {
  return ((row / group_rows * tiles + tile) * tile_vectors + vector) * group_rows + row % group_rows;
}

// Not 0 where the value is not.
NRC_FAST_DEVICE std::uint32_t magnitude_bits(BFloat16 value) { return value.bits & 0x7fffu; }
NRC_FAST_DEVICE std::uint32_t magnitude_bits(Float16 value) { return value.bits & 0x7fffu; }
NRC_FAST_DEVICE std::uint32_t magnitude_bits(float value) {
  FloatBits parts;
  parts.value = value;
  return parts.bits & 0x7fffffffu;
}
NRC_FAST_DEVICE std::uint32_t magnitude_bits(double value) {
  union {
    double value;
    std::uint64_t bits;
  } parts;
  parts.value = value;
  return static_cast<std::uint32_t>(parts.bits) | (static_cast<std::uint32_t>(parts.bits >> 32) & 0x7fffffffu);
}

// Float16 and bfloat16 become float32 at no cost of digits, which is faster to look at.
template <class Row>
using Native = std::conditional_t<sizeof(Row) == 8, double, float>;

// What a lane has seen of a row: whether a value is not 0, and 0 or NaN where one is not finite.
template <class Row>
struct RowFindings {
  std::uint32_t filled = 0;
  Native<Row> bad = 0;
  double energy = 0.0;

  // A value of a piece as a float64 number about the shift.
  NRC_FAST_DEVICE double take(Row stored, double shift) {
    const auto native = as<Native<Row>>(stored);
    filled |= magnitude_bits(stored);
    bad += native * 0;
    const double value = as_double(native) - shift;
    energy += value * value;
    return value;
  }
};

// Whether the architecture that is compiled for has launches of such a kernel.
template <bool by_tensor_cores>
constexpr bool are_products_launched = by_tensor_cores ? has_float64_tensor_cores : runs_float64_without_tensor_cores;

// Blocks for some rows and a part of the columns.
template <class Row, int tiles, bool by_tensor_cores>
NRC_FAST_GLOBAL(product_block, 2)
coefficients_of_rows_kernel(ProductArguments arguments) {
  if constexpr (!are_products_launched<by_tensor_cores>) {
    fail();
    return;
  }
  constexpr int row_count = row_tiles<Row, tiles>;
  const int lane = thread_index() % warp_lanes;
  const int quarter = lane % coefficient_lanes;
  const MatrixView& rows = arguments.features;
  const std::int64_t first_row = block_index() * coefficient_rows<Row, tiles> +
                                 thread_index() / warp_lanes * 8 * row_count + lane / coefficient_lanes;
  const WorkPlan shares{1, arguments.column_parts, ceiling(rows.columns, coefficient_columns)};
  const std::int64_t part = block_index_y();
  const std::int64_t last_step = shares.block_at(part + 1);
  const Row* places[row_count];
#pragma unroll
  for (int t = 0; t < row_count; ++t) {
    const std::int64_t row = first_row + t * 8 < rows.rows ? first_row + t * 8 : rows.rows - 1;
    places[t] = static_cast<const Row*>(rows.data) + row * rows.row_stride;
  }
  double sums[row_count][tiles][2];
  RowFindings<Row> findings[row_count];
  RowPiece<Row> next[row_count];
  std::int64_t step = shares.block_at(part);
#pragma unroll
  for (int t = 0; t < row_count; ++t) {
#pragma unroll
    for (int i = 0; i < 2 * tiles; ++i) sums[t][i / 2][i % 2] = 0.0;
    next[t].template load<coefficient_lanes>(rows, places[t], step * coefficient_columns, quarter,
                                             arguments.is_aligned);
  }
  for (; step < last_step; ++step) {
    const std::int64_t column = step * coefficient_columns;
    double shift[piece_values];
    load_beside<Row, coefficient_lanes>(arguments.shift + column, quarter, shift);
    RowPiece<Row> pieces[row_count];
#pragma unroll
    for (int t = 0; t < row_count; ++t) pieces[t] = next[t];
    // Those of the step behind the last are read for nothing, and in place.
#pragma unroll
    for (int t = 0; t < row_count; ++t) {
      next[t].template load<coefficient_lanes>(rows, places[t], column + coefficient_columns, quarter,
                                               arguments.is_aligned);
    }
    const double* const fragments = arguments.vectors + column * tiles * tile_vectors + lane * 2;
    if (column + coefficient_columns > rows.columns) {  // as the shift there is 0, they count for nothing
#pragma unroll
      for (int t = 0; t < row_count; ++t) {
        pieces[t].template clear_from<coefficient_lanes>(rows.columns - column, quarter);
      }
    }
#pragma unroll
    for (int v = 0; v < piece_values; v += 2) {
      SixteenBytes<double> vectors[tiles];
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        vectors[tile] = *reinterpret_cast<const SixteenBytes<double>*>(fragments + (v / 2 * tiles + tile) * 64);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        double values[row_count];
#pragma unroll
        for (int t = 0; t < row_count; ++t) values[t] = findings[t].take(pieces[t].value(v + i), shift[v + i]);
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
          for (int t = 0; t < row_count; ++t) {
            add_product<by_tensor_cores>(sums[t][tile], values[t], vectors[tile].values[i]);
          }
        }
      }
    }
  }
  double* const coefficients = arguments.coefficients + part * arguments.padded_rows * tiles * tile_vectors;
  double energy = 0.0;
#pragma unroll
  for (int t = 0; t < row_count; ++t) {
    const std::int64_t row = first_row + t * 8;
    const bool is_there = row < rows.rows;
#pragma unroll
    for (int i = 0; i < 2 * tiles; ++i) {
      const int vector = double_accumulator_element(lane, i % 2).column;
      coefficients[coefficient_place<tiles>(row, i / 2, vector)] = is_there ? sums[t][i / 2][i % 2] : 0.0;
    }
    if (is_there) energy += findings[t].energy;
    unsigned found = (findings[t].filled != 0 ? is_filled : 0u) | (findings[t].bad == 0 ? 0u : is_bad);
    found |= shuffle_xor(found, 1);
    found |= shuffle_xor(found, 2);
    if (quarter == 0) arguments.flags[part * arguments.padded_rows + row] = static_cast<unsigned char>(found);
  }
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) energy += shuffle_xor(energy, mask);
  if (lane == 0) {
    arguments.energies[(part * grid_size() + block_index()) * product_warps + thread_index() / warp_lanes] = energy;
  }
}

// The image of a group of vectors: blocks for a few columns and a part of the rows.
template <class Row, int tiles>
class ImageSums {
 public:
  NRC_FAST_DEVICE explicit ImageSums(const ProductArguments& arguments)
      : arguments_(arguments),
        lane_(thread_index() % warp_lanes),
        first_column_((block_index() * product_warps + thread_index() / warp_lanes) * image_columns) {
    clear();
  }

  NRC_FAST_DEVICE bool has_columns() const { return first_column_ < arguments_.features.columns; }

  template <bool by_tensor_cores>
  NRC_FAST_DEVICE void run(std::int64_t part) {
    const std::int64_t groups = ceiling(arguments_.features.rows, group_rows);
    const WorkPlan shares{1, arguments_.row_parts, groups};
    last_ = shares.block_at(part + 1);
    double shift[piece_values];
    load_beside<Row, image_lanes>(arguments_.shift + first_column_, lane_ / group_rows, shift);
    std::int64_t group = shares.block_at(part);
    load(group);
    int folded = 0;
    for (; group < last_; group += at_once) {
      RowPiece<Row> pieces[at_once];
      double lefts[at_once][tiles];
#pragma unroll
      for (int g = 0; g < at_once; ++g) {
        pieces[g] = rows_[g];
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) lefts[g][tile] = group + g < last_ ? lefts_[g][tile] : 0.0;
      }
      load(group + at_once);
#pragma unroll
      for (int g = 0; g < at_once; ++g) {
        const bool is_row =
            group + g < last_ && (group + g) * group_rows + lane_ % group_rows < arguments_.features.rows;
#pragma unroll
        for (int v = 0; v < piece_values; ++v) {
          const double value = as_double(as<Native<Row>>(pieces[g].value(v))) - shift[v];
          column_sums_[v] += is_row ? value : 0.0;
#pragma unroll
          for (int tile = 0; tile < tiles; ++tile) add_product<by_tensor_cores>(sums_[v][tile], lefts[g][tile], value);
        }
      }
      folded += at_once * group_rows;
      if (folded < fold_rows) continue;
      folded = 0;
      fold(part);
    }
    fold(part);
  }

 private:
  // Groups whose rows are on their way: up to 64 bytes a lane, fewer where the sums take the registers.
  static constexpr int at_once = tiles >= most_tiles || RowPiece<Row>::loads >= 4 ? 1
                                 : RowPiece<Row>::loads == 2                      ? 2
                                 : tiles == 2                                     ? 3
                                                                                  : 4;

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int v = 0; v < piece_values; ++v) {
      column_sums_[v] = 0.0;
#pragma unroll
      for (int i = 0; i < 2 * tiles; ++i) sums_[v][i / 2][i % 2] = 0.0;
    }
  }

  // Beyond the last group its own rows stand for those that are not there.
  NRC_FAST_DEVICE void load(std::int64_t group) {
    const MatrixView& rows = arguments_.features;
#pragma unroll
    for (int g = 0; g < at_once; ++g) {
      const std::int64_t kept = group + g < last_ ? group + g : last_ - 1;
      const std::int64_t row = kept * group_rows + lane_ % group_rows;
      const Row* const place =
          static_cast<const Row*>(rows.data) + (row < rows.rows ? row : rows.rows - 1) * rows.row_stride;
      rows_[g].template load<image_lanes>(rows, place, first_column_, lane_ / group_rows, arguments_.is_aligned);
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        lefts_[g][tile] = arguments_.coefficients[(kept * tiles + tile) * warp_lanes + lane_];
      }
    }
  }

  NRC_FAST_DEVICE void fold(std::int64_t part) {
    CompensatedSum* const image =
        arguments_.image + part * arguments_.units * arguments_.padded_columns + first_column_;
    const TileElement element = double_accumulator_element(lane_, 0);
#pragma unroll
    for (int v = 0; v < piece_values; ++v) {
      const int columns[2] = {piece_column(RowPiece<Row>::at_once, image_lanes, element.column, v),
                              piece_column(RowPiece<Row>::at_once, image_lanes, element.column + 1, v)};
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        const std::int64_t vector = tile * tile_vectors + element.row;
        if (vector >= arguments_.group_vectors) continue;
        CompensatedSum* const of_vector = image + (arguments_.first_unit + vector) * arguments_.padded_columns;
        of_vector[columns[0]].add(sums_[v][tile][0]);
        of_vector[columns[1]].add(sums_[v][tile][1]);
      }
      double sum = column_sums_[v];
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      // With the first vectors, or none.
      if (arguments_.first_unit == 1 && lane_ % group_rows == 0) {
        image[piece_column(RowPiece<Row>::at_once, image_lanes, lane_ / group_rows, v)].add(sum);
      }
    }
    clear();
  }

  const ProductArguments& arguments_;
  int lane_;
  std::int64_t first_column_;
  std::int64_t last_ = 0;
  double sums_[piece_values][tiles][2];
  double column_sums_[piece_values];
  RowPiece<Row> rows_[at_once];
  double lefts_[at_once][tiles];
};

template <class Row, int tiles, bool by_tensor_cores>
NRC_FAST_GLOBAL(product_block, 2)
image_of_rows_kernel(ProductArguments arguments) {
  if constexpr (!are_products_launched<by_tensor_cores>) {
    fail();
    return;
  }
  ImageSums<Row, tiles> sums(arguments);
  if (sums.has_columns()) sums.template run<by_tensor_cores>(block_index_y());
}

}  // namespace nrc_fast::cuda
