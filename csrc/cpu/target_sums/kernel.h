// Sums of targets and of their products as pairs of float64 numbers: what is added in a block of rows is exact but for
// roundings of roundings. Compiled without contraction: the order and the roundings of every step count.
//
// Included by the per-ISA translation units only.
#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

namespace {

using Values = Native<double>;

constexpr int vectors_of_sum = static_cast<int>(sum_lanes) / lanes<double>;

struct Pair {
  Values high;
  Values low;
};

// a + b == high + low.
NRC_FAST_INLINE Pair two_sum(Values a, Values b) {
  const Values sum = a + b;
  const Values other = sum - a;
  return {sum, (a - (sum - other)) + (b - other)};
}

NRC_FAST_INLINE Pair added(Pair a, Pair b) {
  const Pair high = two_sum(a.high, b.high);
  const Pair low = two_sum(a.low, b.low);
  const Pair sum = two_sum(high.high, high.low + low.high);
  return two_sum(sum.high, sum.low + low.low);
}

#if defined(__AVX2__) || defined(NRC_FAST_NEON) || defined(__FP_FAST_FMA)
// a b + c, rounded once.
NRC_FAST_INLINE Values multiply_add(Values a, Values b, Values c) {
#if defined(__AVX512F__)
  return reinterpret<Values>(
      _mm512_fmadd_pd(reinterpret<__m512d>(a), reinterpret<__m512d>(b), reinterpret<__m512d>(c)));
#elif defined(__AVX2__)
  return reinterpret<Values>(
      _mm256_fmadd_pd(reinterpret<__m256d>(a), reinterpret<__m256d>(b), reinterpret<__m256d>(c)));
#elif defined(NRC_FAST_NEON)
  return reinterpret<Values>(
      vfmaq_f64(reinterpret<float64x2_t>(c), reinterpret<float64x2_t>(a), reinterpret<float64x2_t>(b)));
#else
  Values result = c;
  for (int lane = 0; lane < lanes<double>; ++lane) result[lane] = __builtin_fma(a[lane], b[lane], c[lane]);
  return result;
#endif
}

// a b == high + low.
NRC_FAST_INLINE Pair two_product(Values a, Values b) {
  const Values product = a * b;
  return {product, multiply_add(a, b, -product)};
}
#else
NRC_FAST_INLINE Values multiply_add(Values a, Values b, Values c) { return a * b + c; }

// Halves of 26 bits, whose products are exact (Dekker 1971, Veltkamp 1968).
NRC_FAST_INLINE Pair halves(Values a) {
  const Values scaled = 0x1.0000002p27 * a;
  const Values high = scaled - (scaled - a);
  return {high, a - high};
}

NRC_FAST_INLINE Pair two_product(Values a, Values b) {
  const Values product = a * b;
  const Pair one = halves(a);
  const Pair other = halves(b);
  const Values rest = (one.high * other.high - product) + one.high * other.low + one.low * other.high;
  return {product, rest + one.low * other.low};
}
#endif

// What the rows of a block add up to, in each lane, without renormalising.
struct BlockSum {
  Pair lane[vectors_of_sum] = {};

  NRC_FAST_INLINE void add(int v, Values term, Values rest) {
    const Pair sum = two_sum(lane[v].high, term);
    lane[v] = {sum.high, lane[v].low + (sum.low + rest)};
  }

  NRC_FAST_INLINE void add_to(double* sums) const {
    for (int v = 0; v < vectors_of_sum; ++v) {
      double* const high = sums + v * lanes<double>;
      double* const low = high + sum_lanes;
      const Pair before{load<Values>(high), load<Values>(low)};
      const Pair sum = added(before, two_sum(lane[v].high, lane[v].low));
      store(high, sum.high);
      store(low, sum.low);
    }
  }
};

// Leaves y - t in place of y, and what rounding it has lost beside it.
void subtract_shift(const TargetArguments& task, std::int64_t column) {
  double* const values = task.values + column * task.stride;
  double* const rests = task.rests + column * task.stride;
  const Values shift = Values{} - task.shift[column];
  BlockSum sum;
  for (std::int64_t r = 0; r < task.padded_rows; r += sum_lanes) {
    for (int v = 0; v < vectors_of_sum; ++v) {
      const std::int64_t first = r + v * lanes<double>;
      const Pair difference = two_sum(load<Values>(values + first), shift);
      store(values + first, difference.high);
      store(rests + first, difference.low);
      sum.add(v, difference.high, difference.low);
    }
  }
  sum.add_to(task.sums + column * target_sum_size);
}

void add_products(const TargetArguments& task, std::int64_t left, std::int64_t right, double* sums) {
  const double* const values[2] = {task.values + left * task.stride, task.values + right * task.stride};
  const double* const rests[2] = {task.rests + left * task.stride, task.rests + right * task.stride};
  BlockSum sum;
  for (std::int64_t r = 0; r < task.padded_rows; r += sum_lanes) {
    for (int v = 0; v < vectors_of_sum; ++v) {
      const std::int64_t first = r + v * lanes<double>;
      const auto a = load<Values>(values[0] + first);
      const auto b = load<Values>(values[1] + first);
      const Pair product = two_product(a, b);
      const Values crossed = multiply_add(load<Values>(rests[0] + first), b, product.low);
      sum.add(v, product.high, multiply_add(a, load<Values>(rests[1] + first), crossed));
    }
  }
  sum.add_to(sums);
}

void add_targets(const TargetArguments& task) {
  for (std::int64_t c = 0; c < task.columns; ++c) subtract_shift(task, c);
  double* sums = task.sums + task.columns * target_sum_size;
  for (std::int64_t i = 0; i < task.columns; ++i) {
    for (std::int64_t j = 0; j <= i; ++j, sums += target_sum_size) add_products(task, i, j, sums);
  }
}

}  // namespace

const TargetKernels& target_kernels() {
  static constexpr TargetKernels kernels = {add_targets};
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
