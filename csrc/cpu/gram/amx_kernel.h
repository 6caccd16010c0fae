// The Gram kernel of bfloat16 rows for processors that multiply whole tiles of them. The right factor of a tile is a
// panel of pairs as it is; the left one lies across, so that a second copy of the panels is packed, [strip of 16
// columns][16 pairs][column][pair].
#pragma once

#include "cpu/gram/pair_pack.h"
#include "cpu/machine/amx.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int strip_columns = tile_lines;
constexpr int tile_size = tile_lines * tile_lines;
static_assert(panel_step<Pair> == strip_columns && lanes<Pair> == tile_lines);

// The copy lies behind all panels.
template <class Pairs>
NRC_FAST_INLINE Pairs* strips_of(Pairs* pairs, std::int64_t panel, std::int64_t columns, std::int64_t pair_count) {
  const std::int64_t padded = (columns + panel_step<Pair> - 1) / panel_step<Pair> * panel_step<Pair>;
  return pairs + padded * pair_count + offset_of<Pair>(panel, pair_count);
}

NRC_FAST_INLINE void turn_panel(const Pair* pairs, int width, std::int64_t pair_count, Pair* strips) {
  Native<std::int32_t> places;
#pragma GCC unroll 16
  for (int k = 0; k < tile_lines; ++k) places[k] = k * width;
  for (int strip = 0; strip < width; strip += strip_columns) {
    for (std::int64_t first = 0; first < pair_count; first += tile_lines) {
      const Pair* const source = pairs + first * width + strip;
      for (int column = 0; column < strip_columns; ++column, strips += tile_lines) {
        store(strips, _mm512_i32gather_epi32(reinterpret<__m512i>(places), source + column, sizeof(Pair)));
      }
    }
  }
}

bool pack_tiles(const PairArguments& task) {
  if (!pack_pairs<tile_lines>(task)) return false;
  const PackArguments& block = task.block;
  const std::int64_t pair_count = pairs_of<tile_lines>(block.row_count);
  Pair* const pairs = static_cast<Pair*>(task.pairs);
  for (std::int64_t panel = block.first_panel; panel < block.last_panel; ++panel) {
    turn_panel(pairs + offset_of<Pair>(panel, pair_count), width_of<Pair>(panel, block.columns), pair_count,
               strips_of(pairs, panel, block.columns, pair_count));
  }
  return true;
}

// Columns of the left panel, as they were turned, against the first vectors of the right one.
template <int vectors>
NRC_FAST_INLINE void multiply_strip(Tiles& tiles, const Pair* left, const Pair* right, int right_width,
                                    std::int64_t pair_count, double* strip, bool is_first) {
  constexpr int width = panel_width<Pair>;
  constexpr int left_tile = 3;
  tiles.zero<0>();
  if constexpr (vectors > 1) tiles.zero<1>();
  if constexpr (vectors > 2) tiles.zero<2>();
  const std::int64_t stride = right_width * static_cast<std::int64_t>(sizeof(Pair));
  for (std::int64_t k = 0; k < pair_count; k += tile_lines, left += tile_size, right += tile_lines * right_width) {
    tiles.read<left_tile>(left, vector_bytes);
    tiles.read<4>(right, stride);
    tiles.multiply<0, left_tile, 4>();
    if constexpr (vectors > 1) {
      tiles.read<5>(right + lanes<Pair>, stride);
      tiles.multiply<1, left_tile, 5>();
    }
    if constexpr (vectors > 2) {
      tiles.read<6>(right + 2 * lanes<Pair>, stride);
      tiles.multiply<2, left_tile, 6>();
    }
  }
  alignas(64) float sums[vectors][tile_size];
  tiles.write<0>(sums[0], vector_bytes);
  if constexpr (vectors > 1) tiles.write<1>(sums[1], vector_bytes);
  if constexpr (vectors > 2) tiles.write<2>(sums[2], vector_bytes);
  for (int r = 0; r < strip_columns; ++r) {
    for (int v = 0; v < vectors; ++v) {
      double* const target = strip + r * width + v * lanes<float>;
      const auto sum = load<Native<float>>(&sums[v][r * lanes<float>]);
      if (is_first) {
        put_widened<false>(target, sum);
      } else {
        put_widened<true>(target, sum);
      }
    }
  }
}

// No rows are fetched ahead: the loads of tiles keep the memory busy.
void multiply_tiles(const PairTileArguments& task, RowsAhead&) {
  constexpr int width = panel_width<Pair>;
  const TileArguments& products = task.products;
  const std::int64_t pair_count = pairs_of<tile_lines>(2 * products.row_count);
  const Pair* const pairs = static_cast<const Pair*>(products.packed);
  const Pair* left = strips_of(pairs, products.left_panel, products.columns, pair_count);
  const Pair* const right = pairs + offset_of<Pair>(products.right_panel, pair_count);
  const int right_width = width_of<Pair>(products.right_panel, products.columns);
  const bool is_diagonal = products.left_panel == products.right_panel;
  Tiles tiles;
  tiles.configure();
  for (int first = 0; first < width && products.left_panel * width + first < products.columns; first += strip_columns) {
    const int vectors = (is_diagonal ? first + strip_columns : right_width) / lanes<Pair>;
    double* const strip = products.tile + first * width;
    if (vectors == 1) {
      multiply_strip<1>(tiles, left, right, right_width, pair_count, strip, products.is_first);
    } else if (vectors == 2) {
      multiply_strip<2>(tiles, left, right, right_width, pair_count, strip, products.is_first);
    } else {
      multiply_strip<3>(tiles, left, right, right_width, pair_count, strip, products.is_first);
    }
    left += strip_columns * pair_count;
  }
  tiles.release();
  if (task.offsets != nullptr) move_tile(task);
}

const PairKernels& gram_pairs() {
  static constexpr PairKernels kernels = {least_columns, 2 * tile_lines, 4, pack_tiles, multiply_tiles};
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
