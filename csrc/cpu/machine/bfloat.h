// Pairs of bfloat16 numbers, and the one instruction that multiplies them: VDPBF16PS of AVX512_BF16, or the same
// computed step by step, so that the tests run the kernels on processors without it, or BFDOT of Arm. Included by the
// translation units for pairs only.
#pragma once

#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

// Two rows of one column: the first in the low half, the second in the high one.
using Pair = std::uint32_t;

#if defined(NRC_FAST_NEON)

// Each of the two additions is rounded to odd, so that it may be off by a unit in the last place, where float32 has
// half of one. Subnormal numbers are taken and given as zeros.
NRC_FAST_INLINE Native<float> dot_pairs(Native<float> sum, Native<Pair> left, Native<Pair> right) {
  return reinterpret<Native<float>>(
      vbfdotq_f32(reinterpret<float32x4_t>(sum), reinterpret<bfloat16x8_t>(left), reinterpret<bfloat16x8_t>(right)));
}

// One pair for all columns, which the instruction takes by its place in a vector.
NRC_FAST_INLINE Native<float> add_products(Native<float> sum, const Pair& left, Native<Pair> right) {
  return reinterpret<Native<float>>(vbfdotq_lane_f32(reinterpret<float32x4_t>(sum), reinterpret<bfloat16x8_t>(right),
                                                     vreinterpret_bf16_u32(vld1_dup_u32(&left)), 0));
}

#else

NRC_FAST_INLINE Native<Pair> broadcast(Pair pair) {
  return reinterpret<Native<Pair>>(_mm512_set1_epi32(static_cast<int>(pair)));
}

#if defined(NRC_FAST_EMULATED_BFLOAT16)

NRC_FAST_INLINE Native<float> without_subnormals(Native<float> value) {
  const auto bits = reinterpret<Native<std::uint32_t>>(value);
  return reinterpret<Native<float>>((bits & 0x7f800000u) == 0u ? bits & 0x80000000u : bits);
}

NRC_FAST_INLINE Native<float> fused_step(Native<float> sum, Native<Pair> left, Native<Pair> right) {
  const auto factor = [](Native<Pair> bits) __attribute__((always_inline)) {
    return without_subnormals(reinterpret<Native<float>>(bits));
  };
  return without_subnormals(
      reinterpret<Native<float>>(_mm512_fmadd_ps(reinterpret<__m512>(factor(left)), reinterpret<__m512>(factor(right)),
                                                 reinterpret<__m512>(without_subnormals(sum)))));
}

// As Intel's manual says: the high halves first, each step rounded to nearest even, subnormal numbers taken and given
// as zeros.
NRC_FAST_INLINE Native<float> dot_pairs(Native<float> sum, Native<Pair> left, Native<Pair> right) {
  return fused_step(fused_step(sum, left & 0xffff0000u, right & 0xffff0000u), left << 16, right << 16);
}

#elif defined(__AVX512BF16__)

NRC_FAST_INLINE Native<float> dot_pairs(Native<float> sum, Native<Pair> left, Native<Pair> right) {
  return reinterpret<Native<float>>(
      _mm512_dpbf16_ps(reinterpret<__m512>(sum), reinterpret<__m512bh>(left), reinterpret<__m512bh>(right)));
}

#endif

#if defined(NRC_FAST_EMULATED_BFLOAT16) || defined(__AVX512BF16__)  // tiles have an instruction of their own
NRC_FAST_INLINE Native<float> add_products(Native<float> sum, const Pair& left, Native<Pair> right) {
  return dot_pairs(sum, broadcast(left), right);
}
#endif

#endif

}  // namespace nrc_fast::NRC_FAST_ISA
