// Where the tensor-core instructions of a warp expect their operands (PTX ISA: ldmatrix, mma.m16n8k16, mma.m8n8k4),
// and how a tile of 16-bit rows lies in shared memory. Both operands of a Gram product are the same rows, [k][i] with
// i contiguous, so both are read with ldmatrix.trans.
#pragma once

#include <cstdint>

#include "common/portable.h"

namespace nrc_fast {

constexpr int warp_lanes = 32;
constexpr int chunk_columns = 8;  // of 16 bits: 16 bytes, what one address of ldmatrix and one copy move

// Byte offset of a chunk in a tile of `columns` (64 or more). Chunks are permuted within a row, so that the same chunk
// of eight successive rows, which ldmatrix reads at once, lies in eight different groups of four banks.
NRC_FAST_BOTH int chunk_offset(int columns, int row, int chunk) { return row * columns * 2 + (chunk ^ (row & 7)) * 16; }

// The row (sample) and chunk, from the corner of a 16 x 16 block on, whose address a lane gives to ldmatrix.x4.trans.
struct LaneChunk {
  int row;
  int chunk;
};

// Registers 0..3: columns 0-7 and 8-15 of rows 0-7, then the same of rows 8-15: the left operand, 16 x 16.
NRC_FAST_BOTH LaneChunk left_lane(int lane) { return {(lane >> 4) * 8 + (lane & 7), lane >> 3 & 1}; }

// Registers 0, 1: rows 0-7 and 8-15 of columns 0-7; 2, 3: of columns 8-15: two right operands, each 16 x 8.
NRC_FAST_BOTH LaneChunk right_lane(int lane) { return {(lane >> 3 & 1) * 8 + (lane & 7), lane >> 4}; }

struct TileElement {
  int row;
  int column;
};

// Of the 16 x 8 accumulator of mma.m16n8k16 and m16n8k8: element of register 0..3.
NRC_FAST_BOTH TileElement accumulator_element(int lane, int reg) {
  return {lane / 4 + reg / 2 * 8, lane % 4 * 2 + reg % 2};
}

// Of the 8 x 8 accumulator of mma.m8n8k4 in float64: element of register 0..1.
NRC_FAST_BOTH TileElement double_accumulator_element(int lane, int reg) { return {lane / 4, lane % 4 * 2 + reg}; }

// A square tile shared out to warps; each of them has `tall` x `wide` accumulators of 16 x 8.
template <int size, int warps>
struct WarpLayout;
template <>
struct WarpLayout<128, 8> {
  static constexpr int warps_across = 4, tall = 4, wide = 4;
};
template <>
struct WarpLayout<128, 4> {
  static constexpr int warps_across = 2, tall = 4, wide = 8;
};
template <>
struct WarpLayout<64, 4> {
  static constexpr int warps_across = 2, tall = 2, wide = 4;
};

// Memory of a tile keeps accumulators as they are in registers: one after the other, the lanes of a warp side by side,
// whatever the layout of the warps. Where register 0 of accumulator 0 of a thread lies, and register `index` behind it.
template <int size, int warps>
NRC_FAST_BOTH int first_place(int thread) {
  using Layout = WarpLayout<size, warps>;
  const int warp = thread / warp_lanes;
  const int row = warp / Layout::warps_across * Layout::tall;
  const int column = warp % Layout::warps_across * Layout::wide;
  return (row * (size / 8) + column) * 4 * warp_lanes + thread % warp_lanes;
}
template <int size, int warps>
NRC_FAST_BOTH int place_behind(int index) {
  using Layout = WarpLayout<size, warps>;
  const int accumulator = index / 4;
  return ((accumulator / Layout::wide * (size / 8) + accumulator % Layout::wide) * 4 + index % 4) * warp_lanes;
}

// The element of a tile that lies at a place.
template <int size>
NRC_FAST_BOTH TileElement tile_element(int place) {
  const TileElement inner = accumulator_element(place % warp_lanes, place / warp_lanes % 4);
  const int accumulator = place / (4 * warp_lanes);
  return {accumulator / (size / 8) * 16 + inner.row, accumulator % (size / 8) * 8 + inner.column};
}

}  // namespace nrc_fast
