// The functions of instructions.h on an emulated device, lane by lane as the PTX ISA documents the instructions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "cuda/emulation/block.h"
#include "cuda/emulation/tensor_core.h"
#include "cuda/machine/fragments.h"

#define NRC_FAST_GLOBAL(threads, blocks) inline void
#define NRC_FAST_DEVICE inline

namespace nrc_fast::cuda {

struct EmulatedStream;
using Stream = EmulatedStream*;

struct Grid {
  std::int64_t x;
  std::int64_t y = 1;
  std::int64_t z = 1;
};

inline emulation::Block& block() { return *emulation::Block::current(); }
inline bool has_fault(emulation::Machine::Fault fault) { return emulation::machine().fault == fault; }

inline int thread_index() { return block().thread(); }
inline std::int64_t block_index() { return block().block_index.x; }
inline std::int64_t block_index_again() { return block_index(); }
inline std::int64_t block_index_y() { return block().block_index.y; }
inline std::int64_t block_index_z() { return block().block_index.z; }
inline std::int64_t grid_size() { return block().grid_size.x; }
inline std::int64_t grid_size_y() { return block().grid_size.y; }
inline void synchronize_block() {
  if (!has_fault(emulation::Machine::Fault::no_barrier)) block().synchronize();
}
inline void synchronize_warp() {
  if (!has_fault(emulation::Machine::Fault::no_barrier)) {
    block().exchange<char>(char{0}, [](const char*, char* taken) { std::fill(taken, taken + 32, char{0}); });
  }
}
inline void keep_order() {}
inline void fail() { throw std::runtime_error("a launch has reached code that none reaches"); }
inline char* shared_memory() { return static_cast<char*>(static_cast<void*>(block().shared())); }

// The launches choose by the emulated capability, which is known at run time only.
constexpr bool runs_largest_blocks = true;

inline void copy_bytes_async(void* shared, const void* global, int bytes, int valid_bytes) {
  block().shared_offset(shared, bytes);
  if (reinterpret_cast<std::uintptr_t>(global) % static_cast<unsigned>(bytes) != 0 || valid_bytes < 0 ||
      valid_bytes > bytes) {
    throw std::runtime_error("an asynchronous copy of " + std::to_string(bytes) +
                             " bytes needs an address that these divide, and no more valid bytes");
  }
  emulation::Fiber& fiber = block().fiber();
  emulation::machine().copied_bytes += valid_bytes;
  emulation::Copy copy{shared, {}, bytes, fiber.copy_group};
  std::memcpy(copy.bytes, global, static_cast<std::size_t>(valid_bytes));
  if (emulation::machine().copies == emulation::Machine::Copies::early) {
    std::memcpy(shared, copy.bytes, static_cast<std::size_t>(bytes));
    return;
  }
  // What is there until the copy has been waited for is undefined.
  std::memset(shared, 0xff, static_cast<std::size_t>(bytes));
  fiber.copies.push_back(copy);
}

inline void copy_async(void* shared, const void* global, int valid_bytes) {
  copy_bytes_async(shared, global, 16, valid_bytes);
}
template <int bytes>
void copy_element_async(void* shared, const void* global, bool is_valid) {
  static_assert(bytes == 4 || bytes == 8);
  copy_bytes_async(shared, global, bytes, is_valid ? bytes : 0);
}
inline void copy_async(void* shared, const void* global) { copy_async(shared, global, 16); }

inline void commit_copies() { ++block().fiber().copy_group; }

template <int pending>
void wait_for_copies() {
  emulation::Fiber& fiber = block().fiber();
  const int waited = pending + (has_fault(emulation::Machine::Fault::wait_too_short) ? 1 : 0);
  while (!fiber.copies.empty() && fiber.copies.front().group < fiber.copy_group - waited) {
    const emulation::Copy& copy = fiber.copies.front();
    std::memcpy(copy.target, copy.bytes, static_cast<std::size_t>(copy.size));
    fiber.copies.pop_front();
  }
}

template <bool is_transposed>
void load_eights(std::uint32_t (&values)[4], const void* shared) {
  struct Registers {
    std::uint32_t value[4];
  };
  const Registers registers = block().exchange<Registers>(shared, [](const void* const* given, Registers* taken) {
    emulation::Machine& machine = emulation::machine();
    for (int matrix = 0; matrix < 4; ++matrix) {
      std::uint16_t rows[8][8];
      int uses[8] = {};
      for (int r = 0; r < 8; ++r) {
        const void* const address = given[matrix * 8 + r];
        const std::int64_t offset = block().shared_offset(address, 16);
        ++uses[offset / 16 % 8];
        std::memcpy(rows[r], address, 16);
      }
      ++machine.matrix_reads;
      machine.matrix_passes += *std::max_element(uses, uses + 8);
      for (int lane = 0; lane < 32; ++lane) {
        // Transposed: the lane's row is a column in memory.
        const int row = lane / 4;
        const int column = lane % 4 * 2;
        const bool plain = !is_transposed || machine.fault == emulation::Machine::Fault::not_transposed;
        const std::uint32_t first = plain ? rows[row][column] : rows[column][row];
        const std::uint32_t second = plain ? rows[row][column + 1] : rows[column + 1][row];
        taken[lane].value[matrix] = first | second << 16;
      }
    }
  });
  std::copy(registers.value, registers.value + 4, values);
}

inline void load_transposed(std::uint32_t (&values)[4], const void* shared) { load_eights<true>(values, shared); }
inline void load_matrices(std::uint32_t (&values)[4], const void* shared) { load_eights<false>(values, shared); }

template <bool is_bfloat16>
void multiply_add(float (&sums)[4], const std::uint32_t (&left)[4], std::uint32_t right0, std::uint32_t right1) {
  struct Operands {
    std::uint32_t left[4];
    std::uint32_t right[2];
    float sums[4];
  };
  struct Result {
    float sums[4];
  };
  Operands operands{{left[0], left[1], left[2], left[3]}, {right0, right1}, {sums[0], sums[1], sums[2], sums[3]}};
  if (has_fault(emulation::Machine::Fault::operands_swapped)) std::swap(operands.right[0], operands.right[1]);
  const Result result = block().exchange<Result>(operands, [](const Operands* given, Result* taken) {
    emulation::Factor a[16][16];
    emulation::Factor b[8][16];
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane / 4;
      const int pair = lane % 4 * 2;
      for (int half = 0; half < 2; ++half) {
        for (int reg = 0; reg < 4; ++reg) {
          const auto bits = static_cast<std::uint16_t>(given[lane].left[reg] >> 16 * half);
          a[group + reg % 2 * 8][pair + half + reg / 2 * 8] = emulation::factor(emulation::widened<is_bfloat16>(bits));
        }
        for (int reg = 0; reg < 2; ++reg) {
          const auto bits = static_cast<std::uint16_t>(given[lane].right[reg] >> 16 * half);
          b[group][pair + half + reg * 8] = emulation::factor(emulation::widened<is_bfloat16>(bits));
        }
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int reg = 0; reg < 4; ++reg) {
        const int row = lane / 4 + reg / 2 * 8;
        const int column = lane % 4 * 2 + reg % 2;
        taken[lane].sums[reg] = emulation::dot_add(given[lane].sums[reg], a[row], b[column]);
      }
    }
  });
  std::copy(result.sums, result.sums + 4, sums);
  if (has_fault(emulation::Machine::Fault::accumulators_swapped)) std::swap(sums[1], sums[2]);
}

// The launches choose by the emulated capability, which is known at run time only.
constexpr bool runs_float64_without_tensor_cores = true;
constexpr bool has_float64_tensor_cores = true;

inline void multiply_add(double (&sums)[2], double left, double right) {
  struct Operands {
    double left;
    double right;
    double sums[2];
  };
  struct Result {
    double sums[2];
  };
  const Operands operands{left, right, {sums[0], sums[1]}};
  const Result result = block().exchange<Result>(operands, [](const Operands* given, Result* taken) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int reg = 0; reg < 2; ++reg) {
        const int row = lane / 4;
        const int column = lane % 4 * 2 + reg;
        double sum = given[lane].sums[reg];
        for (int k = 0; k < 4; ++k) sum = std::fma(given[row * 4 + k].left, given[column * 4 + k].right, sum);
        taken[lane].sums[reg] = sum;
      }
    }
  });
  std::copy(result.sums, result.sums + 2, sums);
  if (has_fault(emulation::Machine::Fault::accumulators_swapped)) std::swap(sums[0], sums[1]);
}

inline void multiply_add(double (&sums)[4], double upper, double lower, double right) {
  double halves[2][2] = {{sums[0], sums[1]}, {sums[2], sums[3]}};
  multiply_add(halves[0], upper, right);
  multiply_add(halves[1], lower, right);
  std::copy(halves[0], halves[0] + 2, sums);
  std::copy(halves[1], halves[1] + 2, sums + 2);
}

template <class T>
T shuffle_xor(T value, int mask) {
  struct Given {
    T value;
    int mask;
  };
  return block().exchange<T>(Given{value, mask}, [](const Given* given, T* taken) {
    for (int lane = 0; lane < 32; ++lane) taken[lane] = given[lane ^ given[lane].mask].value;
  });
}
template <class T>
T shuffle_from(T value, int lane) {
  struct Given {
    T value;
    int lane;
  };
  return block().exchange<T>(Given{value, lane}, [](const Given* given, T* taken) {
    for (int l = 0; l < 32; ++l) taken[l] = given[given[l].lane].value;
  });
}

inline void count_more(std::int64_t* counter, std::int64_t amount) { *counter += amount; }
inline void keep_smallest(std::int64_t* smallest, std::int64_t value) {
  if (static_cast<std::uint64_t>(value) < static_cast<std::uint64_t>(*smallest)) *smallest = value;
}

inline void set_bits(std::uint32_t* word, std::uint32_t bits) { *word |= bits; }
inline int count_bits(std::uint32_t word) { return __builtin_popcount(word); }
inline int lowest_bit(std::uint32_t word) { return __builtin_ctz(word); }

inline void note_load(int bytes) { emulation::machine().loaded_bytes += bytes; }

inline float float16_to_float(std::uint16_t bits) { return emulation::widened_float16(bits); }

inline std::uint32_t packed_bfloat16(float low, float high) {
  const auto rounded = [](float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    if (value != value) return 0x7fffu;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
}

template <class Arguments>
void launch(void (*kernel)(Arguments), const char*, Grid grid, int threads, std::int64_t shared_bytes, Stream,
            const Arguments& arguments) {
  ++emulation::machine().launches;
  emulation::Block block(threads, shared_bytes);
  for (std::int64_t z = 0; z < grid.z; ++z) {
    for (std::int64_t y = 0; y < grid.y; ++y) {
      for (std::int64_t x = 0; x < grid.x; ++x) {
        block.run({x, y, z}, {grid.x, grid.y, grid.z}, [&] { kernel(arguments); });
      }
    }
  }
}

// As the real device answers for kernels that take all the registers that a launch of two blocks leaves them.
template <class Arguments>
std::int64_t resident_blocks(void (*)(Arguments), const char*, int threads, std::int64_t shared_bytes) {
  constexpr std::int64_t registers = 65536;
  constexpr std::int64_t registers_of_thread = 256;
  constexpr std::int64_t reserved = 1024;  // bytes of shared memory, by the system for each block
  const std::int64_t by_registers = registers / (registers_of_thread * threads);
  const std::int64_t by_memory = (emulation::machine().shared_bytes + reserved) / (shared_bytes + reserved);
  return std::min(by_registers, by_memory);
}

inline void fill_zero(void* memory, std::int64_t bytes, Stream) {
  std::memset(memory, 0, static_cast<std::size_t>(bytes));
}

}  // namespace nrc_fast::cuda
