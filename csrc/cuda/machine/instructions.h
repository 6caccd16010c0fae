// Instructions of CUDA devices as functions. The emulation in emulation/instructions.h has the same ones.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>

#include "cuda/machine/fragments.h"
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

// Ends the kernel with an error: for code that no launch reaches.
NRC_FAST_DEVICE void fail() { __trap(); }

NRC_FAST_DEVICE char* shared_memory() {
  extern __shared__ __align__(16) char nrc_fast_shared_memory[];
  return nrc_fast_shared_memory;
}

// ---- asynchronous copies, 16 bytes at a time; bytes after the valid ones become zero ----

#if __CUDA_ARCH__ >= 800
NRC_FAST_DEVICE void copy_async(void* shared, const void* global, int valid_bytes) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global), "r"(valid_bytes) : "memory");
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
#else
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

// ---- lanes of a warp ----

template <class T>
NRC_FAST_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
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

NRC_FAST_DEVICE float float16_to_float(std::uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// ---- launches ----

template <class Arguments>
void launch(void (*kernel)(Arguments), const char* name, Grid grid, int threads, std::int64_t shared_bytes,
            Stream stream, const Arguments& arguments) {
  if (shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          name);
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), threads, static_cast<std::size_t>(shared_bytes), stream>>>(arguments);
  check(cudaGetLastError(), name);
}

inline void fill_zero(void* memory, std::int64_t bytes, Stream stream) {
  check(cudaMemsetAsync(memory, 0, static_cast<std::size_t>(bytes), stream), "clearing a workspace");
}

}  // namespace nrc_fast::cuda
