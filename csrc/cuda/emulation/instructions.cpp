#include "cuda/emulation/instructions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cuda/emulation/tensor_core.h"

namespace nrc_fast::cuda {
namespace {

using emulation::AccessKind;
using emulation::Block;
using emulation::is_left_out;
using emulation::Machine;
using emulation::machine;
using emulation::Meeting;
using emulation::Synchronization;

Block& own_block() { return *Block::active()->block; }

bool has_fault(Machine::Fault fault) { return machine().fault == fault; }

// Of a warp that has met, what a lane gave, and where it takes something.
template <class T>
const T& given(const Meeting& warp, int lane) {
  return *static_cast<const T*>(warp.given[lane]);
}
template <class T>
T* taken(const Meeting& warp, int lane) {
  return static_cast<T*>(warp.taken[lane]);
}

}  // namespace

void fail() { throw std::runtime_error("a launch has reached code that none reaches"); }
char* shared_memory() { return static_cast<char*>(static_cast<void*>(block().shared())); }

void synchronize_block(const char* file, int line) {
  const Synchronization at{"synchronize_block", {file, line}};
  if (!is_left_out(at) && !has_fault(Machine::Fault::no_barrier)) own_block().synchronize(at);
}

void synchronize_warp(const char* file, int line) {
  const Synchronization at{"synchronize_warp", {file, line}};
  if (!is_left_out(at) && !has_fault(Machine::Fault::no_barrier)) own_block().synchronize_warp(at);
}

// ---- asynchronous copies ----

void copy_async(void* shared, const void* global, int valid_bytes) {
  own_block().start_copy(shared, global, 16, valid_bytes, __builtin_return_address(0));
}

void copy_async(void* shared, const void* global) {
  own_block().start_copy(shared, global, 16, 16, __builtin_return_address(0));
}

void copy_bytes_async(void* shared, const void* global, int bytes, int valid_bytes) {
  own_block().start_copy(shared, global, bytes, valid_bytes, __builtin_return_address(0));
}

void commit_copies() { ++Block::active()->copy_group; }

void wait_for_copies(int pending, const char* file, int line) {
  if (is_left_out({"wait_for_copies", {file, line}})) return;
  own_block().finish_copies(pending + (has_fault(Machine::Fault::wait_too_short) ? 1 : 0));
}

// ---- matrices of a warp ----

namespace {

template <bool is_transposed>
void load_eights(std::uint32_t (&values)[4], const void* shared, const Synchronization& at, const void* code) {
  own_block().access(shared, 16, AccessKind::read, code);
  const auto work = [](Block& block, Meeting& warp) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::uint16_t rows[8][8];
      int uses[8] = {};
      for (int r = 0; r < 8; ++r) {
        const void* const address = warp.given[matrix * 8 + r];
        ++uses[block.shared_offset(address, 16) / 16 % 8];
        std::memcpy(rows[r], address, 16);
      }
      ++machine().matrix_reads;
      machine().matrix_passes += *std::max_element(uses, uses + 8);
      const bool is_plain = !is_transposed || has_fault(Machine::Fault::not_transposed);
      for (int lane = 0; lane < 32; ++lane) {
        // Transposed: the lane's row is a column in memory.
        const int row = lane / 4;
        const int column = lane % 4 * 2;
        const std::uint32_t first = is_plain ? rows[row][column] : rows[column][row];
        const std::uint32_t second = is_plain ? rows[row][column + 1] : rows[column + 1][row];
        taken<std::uint32_t>(warp, lane)[matrix] = first | second << 16;
      }
    }
  };
  own_block().exchange(at, shared, values, work);
}

}  // namespace

void load_transposed(std::uint32_t (&values)[4], const void* shared, const char* file, int line) {
  load_eights<true>(values, shared, {"load_transposed", {file, line}}, __builtin_return_address(0));
}

void load_matrices(std::uint32_t (&values)[4], const void* shared, const char* file, int line) {
  load_eights<false>(values, shared, {"load_matrices", {file, line}}, __builtin_return_address(0));
}

namespace {

struct Operands16 {
  std::uint32_t left[4];
  std::uint32_t right[2];
  float sums[4];
};

template <bool is_bfloat16>
void multiply_add_warp(Block&, Meeting& warp) {
  const auto widened = is_bfloat16 ? &emulation::widened_bfloat16 : &emulation::widened_float16;
  const emulation::TensorCore core = emulation::tensor_core_of(machine().capability);
  emulation::Factor a[16][16];
  emulation::Factor b[8][16];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& operands = given<Operands16>(warp, lane);
    const int group = lane / 4;
    const int pair = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      for (int reg = 0; reg < 4; ++reg) {
        const auto bits = static_cast<std::uint16_t>(operands.left[reg] >> 16 * half);
        a[group + reg % 2 * 8][pair + half + reg / 2 * 8] = emulation::factor(widened(bits));
      }
      for (int reg = 0; reg < 2; ++reg) {
        const auto bits = static_cast<std::uint16_t>(operands.right[reg] >> 16 * half);
        b[group][pair + half + reg * 8] = emulation::factor(widened(bits));
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int reg = 0; reg < 4; ++reg) {
      const TileElement element = accumulator_element(lane, reg);
      const float sum = given<Operands16>(warp, lane).sums[reg];
      taken<float>(warp, lane)[reg] = emulation::dot_add(core, sum, a[element.row], b[element.column]);
    }
  }
}

}  // namespace

int products_at_once() { return emulation::tensor_core_of(machine().capability).products_at_once; }

void multiply_add_16(bool is_bfloat16, float (&sums)[4], const std::uint32_t (&left)[4],
                     const std::uint32_t (&right)[2], const emulation::Place& place) {
  Operands16 operands{{left[0], left[1], left[2], left[3]}, {right[0], right[1]}, {sums[0], sums[1], sums[2], sums[3]}};
  if (has_fault(Machine::Fault::operands_swapped)) std::swap(operands.right[0], operands.right[1]);
  const Block::Work work = is_bfloat16 ? &multiply_add_warp<true> : &multiply_add_warp<false>;
  own_block().exchange({"multiply_add", place}, &operands, sums, work);
  if (has_fault(Machine::Fault::accumulators_swapped)) std::swap(sums[1], sums[2]);
}

void multiply_add(double (&sums)[2], double left, double right, const char* file, int line) {
  struct Operands {
    double left;
    double right;
    double sums[2];
  };
  const Operands operands{left, right, {sums[0], sums[1]}};
  const auto work = [](Block&, Meeting& warp) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int reg = 0; reg < 2; ++reg) {
        const TileElement element = double_accumulator_element(lane, reg);
        double sum = given<Operands>(warp, lane).sums[reg];
        for (int k = 0; k < 4; ++k) {
          sum = std::fma(given<Operands>(warp, element.row * 4 + k).left,
                         given<Operands>(warp, element.column * 4 + k).right, sum);
        }
        taken<double>(warp, lane)[reg] = sum;
      }
    }
  };
  own_block().exchange({"multiply_add", {file, line}}, &operands, sums, work);
  if (has_fault(Machine::Fault::accumulators_swapped)) std::swap(sums[0], sums[1]);
}

void take_from_lane(const char* name, void* value, std::size_t bytes, int lane, const emulation::Place& place) {
  struct Given {
    unsigned char value[8];
    std::size_t bytes;
    int lane;
  };
  Given ours{{}, bytes, lane};
  std::memcpy(ours.value, value, bytes);
  const auto work = [](Block& block, Meeting& warp) {
    for (int taker = 0; taker < warp.members; ++taker) {
      const auto& wish = given<Given>(warp, taker);
      if (wish.lane < 0 || wish.lane >= warp.members) {
        throw std::runtime_error(std::string(block.launch.name) + ": a shuffle asks for lane " +
                                 std::to_string(wish.lane) + " of a warp of " + std::to_string(warp.members));
      }
      std::memcpy(warp.taken[taker], given<Given>(warp, wish.lane).value, wish.bytes);
    }
  };
  own_block().exchange({name, place}, &ours, value, work);
}

// ---- counters ----

void count_more(std::int64_t* counter, std::int64_t amount) {
  own_block().access(counter, sizeof(*counter), AccessKind::atomic, __builtin_return_address(0));
  *counter += amount;
}

void keep_smallest(std::int64_t* smallest, std::int64_t value) {
  own_block().access(smallest, sizeof(*smallest), AccessKind::atomic, __builtin_return_address(0));
  if (static_cast<std::uint64_t>(value) < static_cast<std::uint64_t>(*smallest)) *smallest = value;
}

void set_bits(std::uint32_t* word, std::uint32_t bits) {
  own_block().access(word, sizeof(*word), AccessKind::atomic, __builtin_return_address(0));
  *word |= bits;
}

void note_load(int bytes) { machine().loaded_bytes += bytes; }

std::int64_t look_at(const std::int64_t* counter) {
  own_block().access(counter, sizeof(*counter), AccessKind::look, __builtin_return_address(0));
  return *counter;
}

float float16_to_float(std::uint16_t bits) { return emulation::widened_float16(bits); }

std::uint32_t packed_bfloat16(float low, float high) {
  const auto rounded = [](float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    if (value != value) return 0x7fffu;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
}

void fill_zero(void* memory, std::int64_t bytes, Stream) {
  emulation::GuardedExtent extent;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t end = begin + static_cast<std::uintptr_t>(bytes);
  if (emulation::find_guarded(begin, extent) && (begin < extent.begin || end > extent.end)) {
    throw std::runtime_error("clearing a workspace reaches " +
                             distance_from(extent, begin < extent.begin ? begin : end));
  }
  std::memset(memory, 0, static_cast<std::size_t>(bytes));
}

}  // namespace nrc_fast::cuda
