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

void copy_async(void* shared, const void* global, int valid_bytes);
void commit_copies();
void wait_for_copies(int pending, const char* file, int line);
template <int pending>
void wait_for_copies(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  wait_for_copies(pending, file, line);
}

void load_transposed(std::uint32_t (&values)[4], const void* shared, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE());

void multiply_add_16(bool is_bfloat16, float (&sums)[4], const std::uint32_t (&left)[4],
                     const std::uint32_t (&right)[2], const emulation::Place& place);
template <bool is_bfloat16>
NRC_FAST_UNCHECKED void multiply_add(float (&sums)[4], const std::uint32_t (&left)[4], std::uint32_t right0,
                                     std::uint32_t right1, const char* file = __builtin_FILE(),
                                     int line = __builtin_LINE()) {
  multiply_add_16(is_bfloat16, sums, left, {right0, right1}, {file, line});
}

// The launches choose by the emulated capability, which is known at run time only.
constexpr bool runs_float64_without_tensor_cores = true;

void multiply_add(double (&sums)[2], double left, double right, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE());

// `value`, of so many bytes, becomes that of another lane.
void take_from_lane(const char* name, void* value, std::size_t bytes, int lane, const emulation::Place& place);
template <class T>
NRC_FAST_UNCHECKED T shuffle_xor(T value, int mask, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert((sizeof(T) == 4 || sizeof(T) == 8) && std::is_trivially_copyable_v<T>);
  take_from_lane("shuffle_xor", &value, sizeof(T), thread_index() % warp_lanes ^ mask, {file, line});
  return value;
}

void count_more(std::int64_t* counter, std::int64_t amount);
void keep_smallest(std::int64_t* smallest, std::int64_t value);
// What a counter holds while others may be changing it.
std::int64_t look_at(const std::int64_t* counter);

float float16_to_float(std::uint16_t bits);

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

void fill_zero(void* memory, std::int64_t bytes, Stream stream);

}  // namespace nrc_fast::cuda
