// How the copy engine of Hopper cards (TMA) is told of a matrix: rows of 16-bit numbers, copied in boxes.
#pragma once

#include <cstdint>

namespace nrc_fast::cuda {

// Opaque to all but the driver, which writes it, and the copy engine; a kernel takes it as a parameter that it does not
// change (NRC_FAST_GRID_CONSTANT).
struct alignas(128) TensorMap {
  std::uint64_t words[16];
};

// The arguments of cuTensorMapEncodeTiled for two dimensions, the columns first, with its numbers for its choices.
struct TensorMapArguments {
  static constexpr int uint16 = 1;
  static constexpr int swizzle_128_bytes = 3;
  static constexpr int promote_256_bytes = 3;

  const void* address;
  std::uint64_t dimensions[2];
  std::uint64_t row_bytes;  // from one row to the next
  std::uint32_t box[2];
  std::uint32_t steps[2] = {1, 1};
  int data_type = uint16;
  int interleave = 0;
  int swizzle = swizzle_128_bytes;
  int promotion = promote_256_bytes;  // of what is read to the cache
  int outside = 0;                    // what lies outside of the matrix becomes 0
};

// std::runtime_error where the driver refuses the arguments or has no such function.
TensorMap encode_tensor_map(const TensorMapArguments& arguments);

// The map of a matrix of 16-bit numbers whose boxes are of 64 columns and so many rows. Its address and the bytes from
// row to row are multiples of 16.
inline TensorMap map_boxes(const std::uint16_t* data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                           int box_rows) {
  TensorMapArguments arguments{};
  arguments.address = data;
  arguments.dimensions[0] = static_cast<std::uint64_t>(columns);
  arguments.dimensions[1] = static_cast<std::uint64_t>(rows);
  arguments.row_bytes = static_cast<std::uint64_t>(row_stride) * 2;
  arguments.box[0] = 64;
  arguments.box[1] = static_cast<std::uint32_t>(box_rows);
  return encode_tensor_map(arguments);
}

}  // namespace nrc_fast::cuda
