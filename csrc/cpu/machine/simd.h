// Vectors of one instruction set, by the compiler's vector extension: the same source serves every ISA.
//
// Included by the per-ISA translation units only, inside namespace nrc_fast::NRC_FAST_ISA, so that no
// function compiled for one ISA can be picked by the linker for another. For the same reason nothing here
// uses the standard library.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(NRC_FAST_NEON)
#include <arm_neon.h>
#endif

#include "common/dtype.h"

#ifndef NRC_FAST_ISA
#error "define NRC_FAST_ISA (baseline, avx2, avx512 or neon) before including this file"
#endif

#define NRC_FAST_INLINE inline __attribute__((always_inline))

namespace nrc_fast::NRC_FAST_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int vector_registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int vector_registers = 16;
#elif defined(NRC_FAST_NEON)
constexpr int vector_bytes = 16;
constexpr int vector_registers = 32;
#else
constexpr int vector_bytes = 16;
#if defined(NRC_FAST_BASELINE_REGISTERS)  // other processors have more: the tests compile the baseline for them
constexpr int vector_registers = NRC_FAST_BASELINE_REGISTERS;
#else
constexpr int vector_registers = 16;
#endif
#endif

template <class A, class B>
constexpr bool is_same = false;
template <class A>
constexpr bool is_same<A, A> = true;

template <bool constant>
struct Constant {
  static constexpr bool value = constant;
};

template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(sizeof(T) * N)));
};

template <class T, int N>
using Vector = typename VectorOf<T, N>::type;

template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
using Native = Vector<T, lanes<T>>;

template <class V>
NRC_FAST_INLINE V load(const void* source) {
  V value;
  __builtin_memcpy(&value, source, sizeof(V));
  return value;
}

template <class V>
NRC_FAST_INLINE void store(void* target, V value) {
  __builtin_memcpy(target, &value, sizeof(V));
}

// A loaded vector that many instructions use: without this the compiler may load it again for each of them.
template <class V>
NRC_FAST_INLINE void keep_in_register(V& value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#else
  (void)value;
#endif
}

template <class To, class From>
NRC_FAST_INLINE To reinterpret(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof(To));
  return result;
}

template <class T, int N>
NRC_FAST_INLINE T horizontal_sum(Vector<T, N> value) {
  if constexpr (N == 1) {
    return value[0];
  } else {
    using Half = Vector<T, N / 2>;
    Half low;
    Half high;
#if defined(__AVX512F__)
    // By name: the compiler halves the widest vectors by way of the stack.
    if constexpr (sizeof(value) == 64) {
      low = reinterpret<Half>(_mm512_castpd512_pd256(reinterpret<__m512d>(value)));
      high = reinterpret<Half>(_mm512_extractf64x4_pd(reinterpret<__m512d>(value), 1));
      return horizontal_sum<T, N / 2>(low + high);
    }
#endif
    __builtin_memcpy(&low, &value, sizeof(Half));
    __builtin_memcpy(&high, reinterpret_cast<const char*>(&value) + sizeof(Half), sizeof(Half));
    return horizontal_sum<T, N / 2>(low + high);
  }
}

// The sums of four vectors at once, in fewer steps than one by one.
template <class T>
NRC_FAST_INLINE Vector<T, 4> horizontal_sums(Native<T> a, Native<T> b, Native<T> c, Native<T> d) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const auto half = [](Native<T> value) __attribute__((always_inline)) {
    const auto whole = reinterpret<__m512d>(value);
    using Half = Vector<T, lanes<T> / 2>;
    return reinterpret<Half>(_mm512_castpd512_pd256(whole)) + reinterpret<Half>(_mm512_extractf64x4_pd(whole, 1));
  };
#else
  const auto half = [](Native<T> value) __attribute__((always_inline)) { return value; };
#endif
  if constexpr (sizeof(T) == 8) {
    const __m256d ab = _mm256_hadd_pd(reinterpret<__m256d>(half(a)), reinterpret<__m256d>(half(b)));
    const __m256d cd = _mm256_hadd_pd(reinterpret<__m256d>(half(c)), reinterpret<__m256d>(half(d)));
    const __m256d crossed = _mm256_permute2f128_pd(ab, cd, 0x21);
    const __m256d straight = _mm256_blend_pd(ab, cd, 0xc);
    return reinterpret<Vector<T, 4>>(_mm256_add_pd(crossed, straight));
  } else {
    const __m256 ab = _mm256_hadd_ps(reinterpret<__m256>(half(a)), reinterpret<__m256>(half(b)));
    const __m256 cd = _mm256_hadd_ps(reinterpret<__m256>(half(c)), reinterpret<__m256>(half(d)));
    const __m256 all = _mm256_hadd_ps(ab, cd);
    return reinterpret<Vector<T, 4>>(_mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
#elif defined(NRC_FAST_NEON)
  if constexpr (sizeof(T) == 8) {
    const Native<T> sums[2] = {
        reinterpret<Native<T>>(vpaddq_f64(reinterpret<float64x2_t>(a), reinterpret<float64x2_t>(b))),
        reinterpret<Native<T>>(vpaddq_f64(reinterpret<float64x2_t>(c), reinterpret<float64x2_t>(d)))};
    return load<Vector<T, 4>>(sums);
  } else {
    const float32x4_t ab = vpaddq_f32(reinterpret<float32x4_t>(a), reinterpret<float32x4_t>(b));
    const float32x4_t cd = vpaddq_f32(reinterpret<float32x4_t>(c), reinterpret<float32x4_t>(d));
    return reinterpret<Vector<T, 4>>(vpaddq_f32(ab, cd));
  }
#else
  return Vector<T, 4>{horizontal_sum<T, lanes<T>>(a), horizontal_sum<T, lanes<T>>(b), horizontal_sum<T, lanes<T>>(c),
                      horizontal_sum<T, lanes<T>>(d)};
#endif
}

// The compiler widens half vectors one 128-bit piece at a time; the instruction for the whole is named here.
NRC_FAST_INLINE Native<double> widen(Vector<float, lanes<double>> value) {
#if defined(__AVX512F__)
  return reinterpret<Native<double>>(_mm512_cvtps_pd(reinterpret<__m256>(value)));
#elif defined(__AVX2__)
  return reinterpret<Native<double>>(_mm256_cvtps_pd(reinterpret<__m128>(value)));
#else
  return __builtin_convertvector(value, Native<double>);
#endif
}

NRC_FAST_INLINE Native<double> widen(Native<double> value) { return value; }

// The first or the second half.
#if defined(__AVX512F__)
NRC_FAST_INLINE Native<double> widened_half(Native<float> value, int half) {
  const auto whole = reinterpret<__m512>(value);
  const __m256 part = half == 0 ? _mm512_castps512_ps256(whole) : _mm512_extractf32x8_ps(whole, 1);
  return reinterpret<Native<double>>(_mm512_cvtps_pd(part));
}
#elif defined(NRC_FAST_NEON)
NRC_FAST_INLINE Native<double> widened_half(Native<float> value, int half) {
  const auto whole = reinterpret<float32x4_t>(value);
  return reinterpret<Native<double>>(half == 0 ? vcvt_f64_f32(vget_low_f32(whole)) : vcvt_high_f64_f32(whole));
}
#endif

// Adds a vector to float64 numbers, or stores it there. Not by way of memory: an accumulator whose address is taken
// leaves its register.
template <bool adds>
NRC_FAST_INLINE void put_widened(double* target, Native<double> value) {
  store(target, adds ? load<Native<double>>(target) + value : value);
}

template <bool adds>
NRC_FAST_INLINE void put_widened(double* target, Native<float> value) {
#if defined(__AVX512F__) || defined(NRC_FAST_NEON)
  put_widened<adds>(target, widened_half(value, 0));
  put_widened<adds>(target + lanes<double>, widened_half(value, 1));
#elif defined(__AVX2__)
  const auto whole = reinterpret<__m256>(value);
  put_widened<adds>(target, reinterpret<Native<double>>(_mm256_cvtps_pd(_mm256_castps256_ps128(whole))));
  put_widened<adds>(target + lanes<double>,
                    reinterpret<Native<double>>(_mm256_cvtps_pd(_mm256_extractf128_ps(whole, 1))));
#else
  using Wide = Vector<double, lanes<float>>;
  const Wide wide = __builtin_convertvector(value, Wide);
  store(target, adds ? load<Wide>(target) + wide : wide);
#endif
}

template <class V>
NRC_FAST_INLINE void add_widened(double* target, V value) {
  put_widened<true>(target, value);
}

// ---- rows of any dtype, as N values of the type that is computed with ----

template <int N>
NRC_FAST_INLINE Vector<float, N> widen_bfloat16(const BFloat16* source) {
  const auto bits = load<Vector<std::uint16_t, N>>(source);
  const auto wide = __builtin_convertvector(bits, Vector<std::uint32_t, N>) << 16;
  return reinterpret<Vector<float, N>>(wide);
}

template <int N>
NRC_FAST_INLINE Vector<float, N> widen_float16(const Float16* source) {
#if defined(__F16C__)
  if constexpr (N == 4) {
    const __m128 value = _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source)));
    return load<Vector<float, N>>(&value);
  }
  if constexpr (N == 8) {
    const __m256 value = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
    return load<Vector<float, N>>(&value);
  }
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    const __m512 value = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
    return load<Vector<float, N>>(&value);
  }
#endif
#elif defined(NRC_FAST_NEON)
  if constexpr (N <= 4) {
    std::uint16_t halves[4] = {};
    __builtin_memcpy(halves, source, N * sizeof(std::uint16_t));
    const float32x4_t value = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
    return load<Vector<float, N>>(&value);
  }
#else
  // Rebiased as integers; no step passes through a float32 subnormal, which some users have flushed to zero.
  using Bits = Vector<std::uint32_t, N>;
  const Bits half = __builtin_convertvector(load<Vector<std::uint16_t, N>>(source), Bits);
  const Bits magnitude = (half & 0x7fffu) << 13;
  const Bits exponent = half & 0x7c00u;
  const Bits smallest_normal = (half & 0u) + (113u << 23);
  const auto subnormal =
      reinterpret<Vector<float, N>>(magnitude | smallest_normal) - reinterpret<Vector<float, N>>(smallest_normal);
  const Bits normal = magnitude + (112u << 23);
  const Bits special = magnitude | 0x7f800000u;
  const Bits finite = exponent == 0u ? reinterpret<Bits>(subnormal) : normal;
  const Bits result = (half & 0x8000u) << 16 | (exponent == 0x7c00u ? special : finite);
  return reinterpret<Vector<float, N>>(result);
#endif
}

template <class Compute, class Row>
NRC_FAST_INLINE Native<Compute> load_rows_as(const Row* source) {
  constexpr int N = lanes<Compute>;
  if constexpr (is_same<Row, Compute>) {
    return load<Native<Compute>>(source);
  } else if constexpr (is_same<Row, float>) {
    return widen(load<Vector<float, N>>(source));
  } else if constexpr (is_same<Row, BFloat16>) {
    if constexpr (is_same<Compute, float>) {
      return widen_bfloat16<N>(source);
    } else {
      return widen(widen_bfloat16<N>(source));
    }
  } else {
    static_assert(is_same<Row, Float16>);
    if constexpr (is_same<Compute, float>) {
      return widen_float16<N>(source);
    } else {
      return widen(widen_float16<N>(source));
    }
  }
}

// Copies the first `count` of at most N values and leaves the others; no call of the library.
template <class Row, int N>
NRC_FAST_INLINE void copy_values(Row* target, const Row* source, std::int64_t count) {
  if constexpr (N > 0) {
    if (count >= N) {
      __builtin_memcpy(target, source, N * sizeof(Row));
      copy_values<Row, N / 2>(target + N, source + N, count - N);
    } else {
      copy_values<Row, N / 2>(target, source, count);
    }
  }
}

// The first `count` of N values, zeros behind: what lies behind the row is not ours to read.
template <int N, class Row>
NRC_FAST_INLINE void load_values(Row (&padded)[N], const Row* source, std::int64_t count) {
#if defined(__AVX512F__)
  const std::uint32_t mask = count > 0 ? (1u << count) - 1 : 0;
  if constexpr (sizeof(Row) == 8 && N == 8) return store(padded, _mm512_maskz_loadu_epi64(mask, source));
  if constexpr (sizeof(Row) == 4 && N == 16) return store(padded, _mm512_maskz_loadu_epi32(mask, source));
  if constexpr (sizeof(Row) == 4 && N == 8) return store(padded, _mm256_maskz_loadu_epi32(mask, source));
  if constexpr (sizeof(Row) == 2 && N == 16) return store(padded, _mm256_maskz_loadu_epi16(mask, source));
  if constexpr (sizeof(Row) == 2 && N == 8) return store(padded, _mm_maskz_loadu_epi16(mask, source));
#elif defined(__AVX2__)
  if constexpr (sizeof(Row) == 4 && N == 8) {
    const Vector<int, 8> mask = Vector<int, 8>{0, 1, 2, 3, 4, 5, 6, 7} < static_cast<int>(count);
    return store(padded, _mm256_maskload_epi32(reinterpret_cast<const int*>(source), reinterpret<__m256i>(mask)));
  }
  if constexpr (sizeof(Row) == 4 && N == 4) {
    const Vector<int, 4> mask = Vector<int, 4>{0, 1, 2, 3} < static_cast<int>(count);
    return store(padded, _mm_maskload_epi32(reinterpret_cast<const int*>(source), reinterpret<__m128i>(mask)));
  }
  if constexpr (sizeof(Row) == 8) {
    const Vector<long long, 4> mask = Vector<long long, 4>{0, 1, 2, 3} < static_cast<long long>(count);
    return store(padded, _mm256_maskload_epi64(reinterpret_cast<const long long*>(source), reinterpret<__m256i>(mask)));
  }
#endif
  for (Row& value : padded) value = Row{};
  copy_values<Row, N>(padded, source, count);
}

template <class Compute, class Row>
NRC_FAST_INLINE Native<Compute> load_partial_as(const Row* source, std::int64_t count) {
  Row padded[lanes<Compute>];
  load_values(padded, source, count);
  return load_rows_as<Compute>(padded);
}

template <class Row>
NRC_FAST_INLINE bool is_zero(Row value) {
  if constexpr (sizeof(Row) == 2) {
    return (value.bits & 0x7fffu) == 0;
  } else {
    return value == Row(0);
  }
}

template <class Row>
NRC_FAST_INLINE double as_double(Row value) {
  if constexpr (sizeof(Row) == 2) {
    Row padded[4] = {value};
    if constexpr (is_same<Row, BFloat16>) {
      return static_cast<double>(widen_bfloat16<4>(padded)[0]);
    } else {
      return static_cast<double>(widen_float16<4>(padded)[0]);
    }
  } else {
    return static_cast<double>(value);
  }
}

NRC_FAST_INLINE bool is_finite(double value) { return value - value == 0.0; }

}  // namespace nrc_fast::NRC_FAST_ISA
