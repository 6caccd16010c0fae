// Instructions of CUDA devices as functions. The emulation in emulation/instructions.h has the same ones.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>

#include "cuda/machine/fragments.h"
#include "cuda/machine/runtime.h"
#include "cuda/machine/status.h"

#define NRC_FAST_GLOBAL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define NRC_FAST_DEVICE __device__ __forceinline__

namespace nrc_fast::cuda {

using Stream = cudaStream_t;

struct Grid {
  unsigned x;
  unsigned y = 1;
  unsigned z = 1;
};

NRC_FAST_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
NRC_FAST_DEVICE std::int64_t block_index() { return blockIdx.x; }
NRC_FAST_DEVICE std::int64_t block_index_y() { return blockIdx.y; }
NRC_FAST_DEVICE std::int64_t block_index_z() { return blockIdx.z; }
NRC_FAST_DEVICE std::int64_t grid_size() { return gridDim.x; }
NRC_FAST_DEVICE std::int64_t grid_size_y() { return gridDim.y; }
NRC_FAST_DEVICE void synchronize_block() { __syncthreads(); }
NRC_FAST_DEVICE void synchronize_warp() { __syncwarp(); }

// The compiler moves no access to memory across this, which all lanes of a warp reach together.
NRC_FAST_DEVICE void keep_order() {
#if __CUDA_ARCH__ >= 1000
  __syncwarp();  // there the assembler moves loads across what is empty
#else
  asm volatile("" ::: "memory");
#endif
}

// An address as it is: the compiler works out no later ones from where it came from, each with a product of its own.
template <class Value>
NRC_FAST_DEVICE const Value* step_by_step(const Value* address) {
  asm("" : "+l"(address));
  return address;
}

// A number as it is: kept in a register instead of being worked out again where it is used.
NRC_FAST_DEVICE int kept(int number) {
#if __CUDA_ARCH__ >= 800  // before, copies go through registers, and none are left for it
  asm("" : "+r"(number));
#endif
  return number;
}

// An address of shared memory in the same way: one, not one for each kind of use.
NRC_FAST_DEVICE char* kept_shared(char* shared) {
  auto place = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm("" : "+r"(place));
  return static_cast<char*>(__cvta_shared_to_generic(place));
}

// The index of the block, read anew: what is computed from it takes no registers between its uses, where all are taken.
NRC_FAST_DEVICE std::int64_t block_index_again() {
#if __CUDA_ARCH__ >= 1000
  unsigned index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  return index;
#else
  return blockIdx.x;
#endif
}

// The index of the thread in the same way.
NRC_FAST_DEVICE unsigned thread_index_again() {
  unsigned index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

// Ends the kernel with an error: for code that no launch reaches.
NRC_FAST_DEVICE void fail() { __trap(); }

NRC_FAST_DEVICE char* shared_memory() {
  extern __shared__ __align__(16) char nrc_fast_shared_memory[];
  return nrc_fast_shared_memory;
}

// Cards before sm_80 have no shared memory for the largest blocks: no launch asks for them there.
#if __CUDA_ARCH__ >= 800
constexpr bool runs_largest_blocks = true;
#else
constexpr bool runs_largest_blocks = false;
#endif

// ---- asynchronous copies, of 16 bytes, after whose valid ones come zeros, or of an element of 4 or 8, or zero ----

#if __CUDA_ARCH__ >= 800
NRC_FAST_DEVICE void copy_async(void* shared, const void* global, int valid_bytes) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global), "r"(valid_bytes) : "memory");
}
NRC_FAST_DEVICE void copy_async(void* shared, const void* global) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(global) : "memory");
}
template <int bytes>
NRC_FAST_DEVICE void copy_element_async(void* shared, const void* global, bool is_valid) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(global), "n"(bytes),
               "r"(is_valid ? bytes : 0)
               : "memory");
}
NRC_FAST_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>
NRC_FAST_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
#else
// Before sm_80 the copy goes through registers and is complete at once.
NRC_FAST_DEVICE void copy_async(void* shared, const void* global, int valid_bytes) {
  uint4 value = make_uint4(0, 0, 0, 0);
  if (valid_bytes == 16) {
    value = *static_cast<const uint4*>(global);
  } else {
    const auto* source = static_cast<const unsigned short*>(global);
    unsigned words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i * 2 < valid_bytes) words[i / 2] |= static_cast<unsigned>(source[i]) << (i % 2 * 16);
    }
    value = make_uint4(words[0], words[1], words[2], words[3]);
  }
  *static_cast<uint4*>(shared) = value;
}
NRC_FAST_DEVICE void copy_async(void* shared, const void* global) {
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
}
template <int bytes>
NRC_FAST_DEVICE void copy_element_async(void* shared, const void* global, bool is_valid) {
  static_assert(bytes == 4 || bytes == 8);
  if constexpr (bytes == 4) {
    *static_cast<unsigned*>(shared) = is_valid ? *static_cast<const unsigned*>(global) : 0u;
  } else {
    *static_cast<unsigned long long*>(shared) = is_valid ? *static_cast<const unsigned long long*>(global) : 0ull;
  }
}
NRC_FAST_DEVICE void commit_copies() {}
template <int pending>
NRC_FAST_DEVICE void wait_for_copies() {}
#endif

// ---- matrices of a warp ----

NRC_FAST_DEVICE void load_transposed(std::uint32_t (&values)[4], const void* shared) {
  const auto source = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
               : "r"(source)
               : "memory");
}

// The same without transposing: every lane gets two numbers that are side by side.
NRC_FAST_DEVICE void load_matrices(std::uint32_t (&values)[4], const void* shared) {
  const auto source = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
               : "r"(source)
               : "memory");
}

// Of the products of 16-bit numbers so many, at the least, are added before a tensor core cuts their sum.
#if __CUDA_ARCH__ >= 800
NRC_FAST_DEVICE constexpr int products_at_once() { return 8; }
#else
NRC_FAST_DEVICE constexpr int products_at_once() { return 4; }
#endif

// Adds a 16 x 16 times 16 x 8 product of 16-bit numbers.
template <bool is_bfloat16>
NRC_FAST_DEVICE void multiply_add(float (&sums)[4], const std::uint32_t (&left)[4], std::uint32_t right0,
                                  std::uint32_t right1) {
#if __CUDA_ARCH__ >= 800
  if constexpr (is_bfloat16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
  }
#else
  if constexpr (is_bfloat16) {
    fail();  // sm_75 has no bfloat16; the launches never come here
  } else {
    const std::uint32_t rights[2] = {right0, right1};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      asm volatile(
          "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
          : "r"(left[2 * half]), "r"(left[2 * half + 1]), "r"(rights[half]));
    }
  }
#endif
}

// Where float64 tensor cores are, no launch forms float64 sums without them.
#if __CUDA_ARCH__ >= 800
constexpr bool runs_float64_without_tensor_cores = false;
constexpr bool has_float64_tensor_cores = true;
#else
constexpr bool has_float64_tensor_cores = false;
constexpr bool runs_float64_without_tensor_cores = true;
#endif

// Adds an 8 x 4 times 4 x 8 product of float64 numbers.
NRC_FAST_DEVICE void multiply_add(double (&sums)[2], double left, double right) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(sums[0]), "+d"(sums[1])
               : "d"(left), "d"(right));
#else
  fail();  // the launches never come here
#endif
}

// The same of 16 x 4 times 4 x 8, two of the products above, one below the other, with the same bits.
NRC_FAST_DEVICE void multiply_add(double (&sums)[4], double upper, double lower, double right) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+d"(sums[0]), "+d"(sums[1]), "+d"(sums[2]), "+d"(sums[3])
               : "d"(upper), "d"(lower), "d"(right));
#elif __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(sums[0]), "+d"(sums[1])
               : "d"(upper), "d"(right));
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(sums[2]), "+d"(sums[3])
               : "d"(lower), "d"(right));
#else
  fail();
#endif
}

// ---- lanes of a warp ----

template <class T>
NRC_FAST_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class T>
NRC_FAST_DEVICE T shuffle_from(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

// ---- counters: whole numbers, so that the order does not matter ----

NRC_FAST_DEVICE void count_more(std::int64_t* counter, std::int64_t amount) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(amount));
}
// -1 stands for none: as an unsigned number it is the largest.
NRC_FAST_DEVICE void keep_smallest(std::int64_t* smallest, std::int64_t value) {
  atomicMin(reinterpret_cast<unsigned long long*>(smallest), static_cast<unsigned long long>(value));
}
// What a counter holds while others may be changing it: a plain load may be moved or done twice.
NRC_FAST_DEVICE std::int64_t look_at(const std::int64_t* counter) {
  return *static_cast<const volatile std::int64_t*>(counter);
}

// Bits that are set by many; again the order does not matter.
NRC_FAST_DEVICE void set_bits(std::uint32_t* word, std::uint32_t bits) { atomicOr(word, bits); }
NRC_FAST_DEVICE int count_bits(std::uint32_t word) { return __popc(word); }
// Of a word that is not 0.
NRC_FAST_DEVICE int lowest_bit(std::uint32_t word) { return __ffs(static_cast<int>(word)) - 1; }

// The emulated device counts what is loaded of rows.
NRC_FAST_DEVICE void note_load(int) {}

NRC_FAST_DEVICE float float16_to_float(std::uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// The larger of a number and the magnitude of another, NaN where either is.
NRC_FAST_DEVICE float larger_magnitude(float largest, float value) {
#if __CUDA_ARCH__ >= 800
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(largest), "f"(fabsf(value)));
  return larger;
#else
  return largest >= fabsf(value) ? largest : fabsf(value) + 0 * largest;
#endif
}

// The nearest bfloat16 numbers of two, ties to even, side by side in a word.
NRC_FAST_DEVICE std::uint32_t packed_bfloat16(float low, float high) {
#if __CUDA_ARCH__ >= 800
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  fail();  // sm_75 multiplies no bfloat16
  return 0;
#endif
}

// ---- launches ----

template <class Arguments>
void launch(void (*kernel)(Arguments), const char* name, Grid grid, int threads, std::int64_t shared_bytes,
            Stream stream, const Arguments& arguments) {
  if (shared_bytes > 48 * 1024) allow_shared_memory(reinterpret_cast<const void*>(kernel), shared_bytes, name);
  kernel<<<dim3(grid.x, grid.y, grid.z), threads, static_cast<std::size_t>(shared_bytes), stream>>>(arguments);
  check(cudaGetLastError(), name);
}

// Blocks of a kernel that run at once on a multiprocessor of the current device.
template <class Arguments>
std::int64_t resident_blocks(void (*kernel)(Arguments), const char* name, int threads, std::int64_t shared_bytes) {
  if (shared_bytes > 48 * 1024) allow_shared_memory(reinterpret_cast<const void*>(kernel), shared_bytes, name);
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, static_cast<std::size_t>(shared_bytes)),
        name);
  return blocks;
}

inline void fill_zero(void* memory, std::int64_t bytes, Stream stream) {
  check(cudaMemsetAsync(memory, 0, static_cast<std::size_t>(bytes), stream), "clearing a workspace");
}

}  // namespace nrc_fast::cuda
