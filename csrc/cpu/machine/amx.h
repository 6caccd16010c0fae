// The tiles of AMX-BF16, or the same computed step by step for the tests: eight registers of 16 rows of 64 bytes, which
// each thread has for itself from their configuration to their release. Included by the translation units for it only.
#pragma once

#include "cpu/machine/bfloat.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int tile_lines = 16;

#if defined(NRC_FAST_EMULATED_BFLOAT16)

class Tiles {
 public:
  NRC_FAST_INLINE void configure() {}
  NRC_FAST_INLINE void release() {}
  template <int target>
  NRC_FAST_INLINE void zero() {
    for (Native<Pair>& line : tiles_[target]) line = Native<Pair>{};
  }
  template <int target>
  NRC_FAST_INLINE void read(const void* source, std::int64_t stride) {
    for (int m = 0; m < tile_lines; ++m) {
      tiles_[target][m] = load<Native<Pair>>(static_cast<const char*>(source) + m * stride);
    }
  }
  template <int source>
  NRC_FAST_INLINE void write(void* target, std::int64_t stride) const {
    for (int m = 0; m < tile_lines; ++m) store(static_cast<char*>(target) + m * stride, tiles_[source][m]);
  }

  // TDPBF16PS, as Intel's manual says: the low halves of all pairs are added up, and the high ones, then both.
  template <int sums, int left, int right>
  NRC_FAST_INLINE void multiply() {
    for (int m = 0; m < tile_lines; ++m) {
      Native<float> low = {};
      Native<float> high = {};
      for (int k = 0; k < tile_lines; ++k) {
        const Native<Pair> factor = broadcast(tiles_[left][m][k]);
        low = fused_step(low, factor << 16, tiles_[right][k] << 16);
        high = fused_step(high, factor & 0xffff0000u, tiles_[right][k] & 0xffff0000u);
      }
      const Native<float> before = without_subnormals(reinterpret<Native<float>>(tiles_[sums][m]));
      tiles_[sums][m] = reinterpret<Native<Pair>>(without_subnormals(before + without_subnormals(low + high)));
    }
  }

 private:
  Native<Pair> tiles_[8][tile_lines];
};

#else

// By assembly: the compilers' own functions take register numbers as text only.
class Tiles {
 public:
  NRC_FAST_INLINE void configure() {
    alignas(64) unsigned char shape[64] = {1};  // the palette
    for (int t = 0; t < 8; ++t) {
      shape[16 + 2 * t] = vector_bytes;
      shape[48 + t] = tile_lines;
    }
    asm volatile("ldtilecfg %0" ::"m"(shape));
  }
  // Not by a destructor, for which the compiler may want the library of exceptions.
  NRC_FAST_INLINE void release() { asm volatile("tilerelease"); }

  template <int target>
  NRC_FAST_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(target));
  }
  template <int target>
  NRC_FAST_INLINE void read(const void* source, std::int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(target), "r"(source), "r"(stride) : "memory");
  }
  template <int source>
  NRC_FAST_INLINE void write(void* target, std::int64_t stride) const {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(source), "r"(target), "r"(stride) : "memory");
  }
  template <int sums, int left, int right>
  NRC_FAST_INLINE void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(left), "i"(right));
  }
};

#endif

}  // namespace nrc_fast::NRC_FAST_ISA
