// Matrices in shared memory as the products of warpgroups take them (PTX ISA: wgmma, matrix descriptor). Both operands
// of a Gram product are rows with their columns side by side, so both are "MN-major": boxes of 64 columns of 16 bits,
// which are 128 bytes of every row, whose chunks of 16 bytes are permuted within eight rows ("128-byte swizzle").
#pragma once

#include <cstdint>

#include "common/portable.h"

namespace nrc_fast {

constexpr int box_columns = 64;
constexpr int box_row_bytes = box_columns * 2;
constexpr int swizzle_rows = 8;                              // after which the permutation of chunks repeats
constexpr int swizzle_bytes = swizzle_rows * box_row_bytes;  // at whose multiples boxes begin
constexpr int product_rows = 16;                             // that one product adds up

// Byte offset of a chunk of eight columns in a box.
NRC_FAST_BOTH int box_chunk_offset(int row, int chunk) {
  return row * box_row_bytes + (chunk ^ row % swizzle_rows) * 16;
}

// The descriptor of `product_rows` rows of a matrix that begins at an address of shared memory and whose further boxes
// lie `box_bytes` apart.
NRC_FAST_BOTH std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t box_bytes) {
  const auto encoded = [](std::uint32_t bytes) { return static_cast<std::uint64_t>((bytes & 0x3ffffu) >> 4); };
  constexpr std::uint64_t swizzled_by_128_bytes = 1;
  return encoded(address) | encoded(box_bytes) << 16 | encoded(swizzle_bytes) << 32 | swizzled_by_128_bytes << 62;
}

// Of the accumulator of 64 x n that the four warps of a warpgroup share: element of a register of a thread.
struct ProductElement {
  int row;
  int column;
};
NRC_FAST_BOTH ProductElement product_element(int thread, int reg) {
  return {thread / 32 * 16 + thread % 32 / 4 + reg / 2 % 2 * 8, reg / 4 * 8 + thread % 4 * 2 + reg % 2};
}

}  // namespace nrc_fast
