// The functions of machine/warpgroup_instructions.h on an emulated device.
#pragma once

#include "cuda/emulation/instructions.h"
#include "cuda/machine/tensor_map.h"

#define NRC_FAST_GRID_CONSTANT

namespace nrc_fast::cuda {

constexpr bool has_warpgroups = true;
constexpr int warpgroup_threads = 128;
using PhaseBarrier = std::uint64_t;

std::uint32_t shared_address(const void* shared);

void initialize_barrier(PhaseBarrier* barrier, int arrivals);
void fence_shared_writes(const char* file = __builtin_FILE(), int line = __builtin_LINE());
void arrive(PhaseBarrier* barrier);
void arrive_and_expect(PhaseBarrier* barrier, int bytes);
void wait_for_phase(PhaseBarrier* barrier, int parity, const char* file = __builtin_FILE(),
                    int line = __builtin_LINE());

void copy_box(void* shared, const TensorMap* map, int column, int row, PhaseBarrier* barrier);

void fence_products(const char* file = __builtin_FILE(), int line = __builtin_LINE());
void commit_products(const char* file = __builtin_FILE(), int line = __builtin_LINE());
void wait_for_products(int pending, const char* file, int line);
template <int pending>
void wait_for_products(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  wait_for_products(pending, file, line);
}

// Registers are not counted.
template <int registers>
NRC_FAST_UNCHECKED void take_registers() {}
template <int registers>
NRC_FAST_UNCHECKED void give_registers() {}

void start_product(float* sums, int count, bool is_bfloat16, std::uint64_t left, std::uint64_t right,
                   const emulation::Place& place);
template <bool is_bfloat16, int count>
NRC_FAST_UNCHECKED void start_product(float (&sums)[count], std::uint64_t left, std::uint64_t right,
                                      const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(count == 32 || count == 64);
  start_product(sums, count, is_bfloat16, left, right, {file, line});
}

}  // namespace nrc_fast::cuda
