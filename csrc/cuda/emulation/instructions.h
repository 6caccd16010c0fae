// The functions of instructions.h on an emulated device, lane by lane as the PTX ISA documents the instructions. Those
// by which threads wait know the line that they are called from.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <type_traits>

#include "cuda/emulation/block.h"
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

NRC_FAST_UNCHECKED inline const emulation::Block& block() { return *emulation::Block::active()->block; }

NRC_FAST_UNCHECKED inline int thread_index() { return emulation::Block::active()->thread; }
NRC_FAST_UNCHECKED inline unsigned thread_index_again() { return static_cast<unsigned>(thread_index()); }
NRC_FAST_UNCHECKED inline std::int64_t block_index() { return block().index.x; }
NRC_FAST_UNCHECKED inline std::int64_t block_index_again() { return block().index.x; }
NRC_FAST_UNCHECKED inline std::int64_t block_index_y() { return block().index.y; }
NRC_FAST_UNCHECKED inline std::int64_t block_index_z() { return block().index.z; }
NRC_FAST_UNCHECKED inline std::int64_t grid_size() { return block().launch.grid.x; }
NRC_FAST_UNCHECKED inline std::int64_t grid_size_y() { return block().launch.grid.y; }
void fail();
char* shared_memory();

void synchronize_block(const char* file = __builtin_FILE(), int line = __builtin_LINE());
void synchronize_warp(const char* file = __builtin_FILE(), int line = __builtin_LINE());
inline void keep_order() {}

template <class Value>
const Value* step_by_step(const Value* address) {
  return address;
}
inline int kept(int number) { return number; }
inline char* kept_shared(char* shared) { return shared; }

// The launches choose by the emulated capability, which is known at run time only.
constexpr bool runs_largest_blocks = true;
constexpr bool runs_float64_without_tensor_cores = true;
constexpr bool has_float64_tensor_cores = true;

void copy_async(void* shared, const void* global, int valid_bytes);
void copy_async(void* shared, const void* global);
void copy_bytes_async(void* shared, const void* global, int bytes, int valid_bytes);
template <int bytes>
NRC_FAST_UNCHECKED void copy_element_async(void* shared, const void* global, bool is_valid) {
  static_assert(bytes == 4 || bytes == 8);
  copy_bytes_async(shared, global, bytes, is_valid ? bytes : 0);
}
void commit_copies();
void wait_for_copies(int pending, const char* file, int line);
template <int pending>
void wait_for_copies(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  wait_for_copies(pending, file, line);
}

void load_transposed(std::uint32_t (&values)[4], const void* shared, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE());
void load_matrices(std::uint32_t (&values)[4], const void* shared, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE());

int products_at_once();

void multiply_add_16(bool is_bfloat16, float (&sums)[4], const std::uint32_t (&left)[4],
                     const std::uint32_t (&right)[2], const emulation::Place& place);
template <bool is_bfloat16>
NRC_FAST_UNCHECKED void multiply_add(float (&sums)[4], const std::uint32_t (&left)[4], std::uint32_t right0,
                                     std::uint32_t right1, const char* file = __builtin_FILE(),
                                     int line = __builtin_LINE()) {
  multiply_add_16(is_bfloat16, sums, left, {right0, right1}, {file, line});
}

void multiply_add(double (&sums)[2], double left, double right, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE());

NRC_FAST_UNCHECKED inline void multiply_add(double (&sums)[4], double upper, double lower, double right,
                                            const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  double halves[2][2] = {{sums[0], sums[1]}, {sums[2], sums[3]}};
  multiply_add(halves[0], upper, right, file, line);
  multiply_add(halves[1], lower, right, file, line);
  for (int i = 0; i < 4; ++i) sums[i] = halves[i / 2][i % 2];
}

// `value`, of so many bytes, becomes that of another lane.
void take_from_lane(const char* name, void* value, std::size_t bytes, int lane, const emulation::Place& place);
template <class T>
NRC_FAST_UNCHECKED T shuffle_xor(T value, int mask, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert((sizeof(T) == 4 || sizeof(T) == 8) && std::is_trivially_copyable_v<T>);
  take_from_lane("shuffle_xor", &value, sizeof(T), thread_index() % warp_lanes ^ mask, {file, line});
  return value;
}

template <class T>
NRC_FAST_UNCHECKED T shuffle_from(T value, int lane, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert((sizeof(T) == 4 || sizeof(T) == 8) && std::is_trivially_copyable_v<T>);
  take_from_lane("shuffle_from", &value, sizeof(T), lane, {file, line});
  return value;
}

void count_more(std::int64_t* counter, std::int64_t amount);
void keep_smallest(std::int64_t* smallest, std::int64_t value);
// What a counter holds while others may be changing it.
std::int64_t look_at(const std::int64_t* counter);

void set_bits(std::uint32_t* word, std::uint32_t bits);
inline int count_bits(std::uint32_t word) { return __builtin_popcount(word); }
inline int lowest_bit(std::uint32_t word) { return __builtin_ctz(word); }

void note_load(int bytes);

float float16_to_float(std::uint16_t bits);
NRC_FAST_UNCHECKED inline float larger_magnitude(float largest, float value) {
  return largest >= std::fabs(value) ? largest : std::fabs(value) + 0 * largest;
}
std::uint32_t packed_bfloat16(float low, float high);

template <class Arguments>
void launch(void (*kernel)(Arguments), const char* name, Grid grid, int threads, std::int64_t shared_bytes, Stream,
            const Arguments& arguments) {
  struct Call {
    void (*kernel)(Arguments);
    const Arguments* arguments;
  };
  const Call call{kernel, &arguments};
  emulation::run_launch(
      {name, {grid.x, grid.y, grid.z}, threads, shared_bytes},
      [](const void* made) {
        const auto& of = *static_cast<const Call*>(made);
        of.kernel(*of.arguments);
      },
      &call);
}

// As the real device answers for kernels that take all the registers that they may: 256 of a thread, or those that one
// block leaves them.
template <class Arguments>
std::int64_t resident_blocks(void (*)(Arguments), const char*, int threads, std::int64_t shared_bytes) {
  const std::int64_t registers_of_thread = std::min<std::int64_t>(256, 65536 / threads);
  constexpr std::int64_t reserved = 1024;  // bytes of shared memory, by the system for each block
  const emulation::CardLimits& card = emulation::card_limits(emulation::machine().capability);
  const std::int64_t by_registers = 65536 / (registers_of_thread * threads);
  const std::int64_t by_memory = (card.shared_per_block + reserved) / (shared_bytes + reserved);
  return std::min(by_registers, by_memory);
}

void fill_zero(void* memory, std::int64_t bytes, Stream stream);

}  // namespace nrc_fast::cuda
