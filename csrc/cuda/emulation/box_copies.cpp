#include "cuda/emulation/box_copies.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "cuda/emulation/block.h"
#include "cuda/machine/tensor_map.h"

namespace nrc_fast::cuda {
namespace {

constexpr std::uint64_t mark = 0x74656e736f726d61;
constexpr int element_bytes = 2;
constexpr int span_bytes[] = {16, 32, 64, 128};  // within which a swizzling mode permutes

void require(bool condition, const std::string& what) {
  if (!condition) {
    throw std::runtime_error("cuTensorMapEncodeTiled: the CUDA driver says error 1 (emulated: " + what + ")");
  }
}

}  // namespace

TensorMap encode_tensor_map(const TensorMapArguments& arguments) {
  static_assert(sizeof(TensorMapArguments) <= 15 * sizeof(std::uint64_t));
  require(arguments.data_type == 1 || arguments.data_type == 6 || arguments.data_type == 9,
          "types of 16 bits are known here, 1, 6 and 9");
  require(reinterpret_cast<std::uintptr_t>(arguments.address) % 16 == 0, "the address is no multiple of 16");
  for (int i = 0; i < 2; ++i) {
    require(arguments.dimensions[i] >= 1 && arguments.dimensions[i] <= std::uint64_t{1} << 32,
            "a dimension is not from 1 to 2^32");
    require(arguments.box[i] >= 1 && arguments.box[i] <= 256, "a side of the box is not from 1 to 256");
    require(arguments.steps[i] == 1, "steps other than 1 are not known here");
  }
  require(arguments.row_bytes % 16 == 0 && arguments.row_bytes < std::uint64_t{1} << 40,
          "the bytes from row to row are no multiple of 16 below 2^40");
  require(arguments.row_bytes >= arguments.dimensions[0] * element_bytes, "rows lie in one another");
  const std::uint64_t inner = std::uint64_t{arguments.box[0]} * element_bytes;
  require(inner % 16 == 0, "rows of the box are no multiple of 16 bytes");
  require(arguments.interleave == 0, "an interleaved layout needs three dimensions");
  require(arguments.swizzle >= 0 && arguments.swizzle <= 3, "this swizzling mode is not known here");
  require(arguments.swizzle == 0 || inner <= static_cast<std::uint64_t>(span_bytes[arguments.swizzle]),
          "rows of the box are longer than what the swizzling mode permutes");
  require(arguments.promotion >= 0 && arguments.promotion <= 3, "there is no such promotion");
  require(arguments.outside == 0, "only zeros are known here for what is outside");
  TensorMap map{};
  std::memcpy(map.words, &arguments, sizeof(arguments));
  map.words[15] = mark;
  return map;
}

namespace emulation {

void BoxCopies::start(void* shared, const TensorMap& map, int column, int row, const void* barrier, const void* code) {
  const std::string name = block_.launch.name;
  if (map.words[15] != mark) throw std::runtime_error(name + ": the copy engine is given what is no tensor map");
  if (reinterpret_cast<std::uintptr_t>(&map) % 64 != 0) {
    throw std::runtime_error(name + ": the address of a tensor map is no multiple of 64");
  }
  TensorMapArguments matrix{};
  std::memcpy(&matrix, map.words, sizeof(matrix));
  block_.barriers.require_usable(barrier);
  const std::int64_t row_bytes = std::int64_t{matrix.box[0]} * element_bytes;
  const std::int64_t box_bytes = row_bytes * matrix.box[1];
  const std::int64_t offset = block_.shared_offset(shared, 16);
  if ((block_.window() + offset) % 128 != 0) {
    throw std::runtime_error(name + ": a box is copied to address " + std::to_string(block_.window() + offset) +
                             " of shared memory, which is no multiple of 128");
  }
  if (offset + box_bytes > block_.launch.shared_bytes) {
    throw std::runtime_error(name + ": a box crosses the end of shared memory");
  }
  const int thread = Block::active()->thread;
  BoxCopy copy{{}, barrier, box_bytes};
  for (std::int64_t r = 0; r < matrix.box[1]; ++r) {
    const std::int64_t y = std::int64_t{row} + r;
    for (std::int64_t at = 0; at < row_bytes; at += 16) {
      Piece piece{};
      // The chunk's number in the span is xored with that of the span's row, which addresses count.
      auto address = static_cast<std::int64_t>(block_.window()) + offset + r * row_bytes + at;
      address ^= (address >> 7 & (span_bytes[matrix.swizzle] / 16 - 1)) << 4;
      piece.target = address - static_cast<std::int64_t>(block_.window());
      for (std::int64_t e = 0; e < 16 / element_bytes; ++e) {
        const std::int64_t x = std::int64_t{column} + at / element_bytes + e;
        const bool is_inside = x >= 0 && x < static_cast<std::int64_t>(matrix.dimensions[0]) && y >= 0 &&
                               y < static_cast<std::int64_t>(matrix.dimensions[1]);
        if (!is_inside) continue;
        const unsigned char* const source = static_cast<const unsigned char*>(matrix.address) +
                                            y * static_cast<std::int64_t>(matrix.row_bytes) + x * element_bytes;
        block_.access_for(thread, source, element_bytes, AccessKind::read, code);
        std::memcpy(piece.values + e * element_bytes, source, element_bytes);
        machine().copied_bytes += element_bytes;
      }
      block_.access_for(thread, block_.shared() + piece.target, 16, AccessKind::copy, code);
      std::memset(block_.shared() + piece.target, 0xff, 16);  // undefined until it has landed
      copy.pieces.push_back(piece);
    }
  }
  if (machine().copies == Machine::Copies::early) return land(copy);
  copies_.push_back(std::move(copy));
}

void BoxCopies::land(const BoxCopy& copy) {
  for (const Piece& piece : copy.pieces) {
    std::memcpy(block_.shared() + piece.target, piece.values, 16);
    block_.land(block_.shared() + piece.target, 16);
  }
  block_.barriers.add_bytes(copy.barrier, copy.bytes);
}

bool BoxCopies::land_one() {
  if (copies_.empty()) return false;
  const bool is_mixed = machine().order == Machine::Order::shuffled || machine().order == Machine::Order::ahead;
  const std::size_t chosen = is_mixed ? (machine().seed + 7 * turn_++) % copies_.size() : 0;
  const BoxCopy copy = std::move(copies_[chosen]);
  copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(chosen));
  land(copy);
  return true;
}

void BoxCopies::land_some() {
  if (machine().order == Machine::Order::shuffled && (machine().seed + turn_++) % 3 == 0) land_one();
}

void BoxCopies::require_landed() const {
  if (copies_.empty()) return;
  throw std::runtime_error(std::string(block_.launch.name) + ": a block ends before " + std::to_string(copies_.size()) +
                           " of its copies of boxes have landed");
}

}  // namespace emulation
}  // namespace nrc_fast::cuda
