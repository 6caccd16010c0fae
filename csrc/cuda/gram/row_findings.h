// What one read of rows finds beside the products that it feeds: norms, sums over columns, the largest magnitude, and
// which rows are zero or not finite. For kernels that have the rows in registers or in shared memory anyway, so that
// nothing is read a second time. Results do not depend on the order: flags are bits that are set, magnitudes a maximum,
// and sums lie in pieces of their own.
#pragma once

#include <cstdint>

#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

// What a pass whose totals are wanted finds out about its rows.
struct Findings {
  RowCounts counts;
  std::int64_t below;  // 2047 minus the biased exponent of the largest |h - shift|; -1 where all are 0
  std::int64_t target_below;
  std::int64_t whole_below;  // the same of rows that were added before it was known whether one is to be left out
  RowCounts guard;           // not finite: nothing is to be added
  RowCounts near_guard;   // not finite: nothing is to be added of float32 products of rows that no scale brings there
  RowCounts far_guard;    // not finite: nor of the float64 products that take their place where those leave the range
  double scale;           // a power of two that brings the largest |h - shift| to between 1 and 2
  double inverse_square;  // 1 / scale^2
};

constexpr int mask_rows = 32;  // of a word of the masks

// One bit for each row, 32 rows a word, for rows whose columns are read by several blocks; zeros at first.
struct RowMasks {
  std::uint32_t* filled;  // rows with a number that is not 0
  std::uint32_t* bad;     // rows with one that is not finite
};

// Biased, of the largest numbers whose squares are added up: about 1e75.
constexpr std::int64_t largest_exponent = 1023 + 249;

union DoubleBits {
  std::uint64_t bits;
  double value;
};

NRC_FAST_DEVICE double power_of_two(std::int64_t exponent) {
  DoubleBits bits;
  bits.bits = static_cast<std::uint64_t>(1023 + exponent) << 52;
  return bits.value;
}

// The upper half of a magnitude has its order, and its exponent.
NRC_FAST_DEVICE std::uint32_t upper_half(double value) {
  DoubleBits bits;
  bits.value = value;
  return static_cast<std::uint32_t>(bits.bits >> 32) & 0x7fffffffu;
}
NRC_FAST_DEVICE double from_upper_half(std::uint32_t half) {
  DoubleBits bits;
  bits.bits = static_cast<std::uint64_t>(half) << 32;
  return bits.value;
}
NRC_FAST_DEVICE std::uint32_t larger(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

constexpr std::uint32_t nonfinite_half = 0x7ff00000u;

NRC_FAST_DEVICE double magnitude(double value) { return value < 0.0 ? -value : value; }

NRC_FAST_DEVICE double warp_sum(double value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

NRC_FAST_DEVICE double warp_maximum(double value) {
#pragma unroll
  for (int mask = warp_lanes / 2; mask > 0; mask /= 2) {
    const double other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// Bits that any of the lanes has whose numbers differ in their lowest log2(lanes) bits only.
template <int lanes>
NRC_FAST_DEVICE std::uint32_t joined_bits(std::uint32_t bits) {
#pragma unroll
  for (int mask = lanes / 2; mask > 0; mask /= 2) bits |= shuffle_xor(bits, mask);
  return bits;
}

// Sum of the squares of a row in one read. Squares of float64 numbers may leave the range: those that are far from 1
// are added up scaled, apart from the others. Squares of narrower rows, shifted or not, stay in it.
template <bool is_wide>
struct RowEnergy {
  double sum = 0.0;

  NRC_FAST_DEVICE void add(double value) { sum += value * value; }
  NRC_FAST_DEVICE void join_warp() { sum = warp_sum(sum); }
  // 0 for a row of zeros.
  NRC_FAST_DEVICE double inverse_norm() const { return sum > 0.0 ? 1.0 / sqrt(sum) : 0.0; }
};

template <>
struct RowEnergy<true> {
  static constexpr int far = 500;   // exponents beyond which squares are scaled,
  static constexpr int step = 600;  // by this power of two
  double small = 0.0;
  double usual = 0.0;
  double large = 0.0;

  NRC_FAST_DEVICE void add(double value) {
    const double size = magnitude(value);
    const bool is_large = size > power_of_two(far);
    const bool is_small = size < power_of_two(-far);
    const double scaled = size * (is_large ? power_of_two(-step) : (is_small ? power_of_two(step) : 1.0));
    const double square = scaled * scaled;
    large += is_large ? square : 0.0;
    small += is_small ? square : 0.0;
    usual += is_large || is_small ? 0.0 : square;
  }
  NRC_FAST_DEVICE void join_warp() {
    small = warp_sum(small);
    usual = warp_sum(usual);
    large = warp_sum(large);
  }
  // Infinite of a norm below 2^-1022.
  NRC_FAST_DEVICE double inverse_norm() const {
    // 2^-1200 in two steps, as it is no number of its own.
    const double down = power_of_two(-step);
    if (large > 0.0) return down / sqrt(large + usual * down * down);
    if (usual > 0.0) return 1.0 / sqrt(usual + small * down * down);
    return small > 0.0 ? power_of_two(step) / sqrt(small) : 0.0;
  }
};

// Of one row, or of the part of it that a thread has seen; `join_warp` makes it that of all lanes.
template <class Row>
struct RowFindings {
  RowEnergy<sizeof(Row) == 8> energy;
  double largest = 0.0;  // |h - shift|
  double bad = 0.0;      // not 0 where a value is not finite
  double filled = 0.0;   // not 0 where a value is not 0

  NRC_FAST_DEVICE void see(double stored) {
    if (!is_finite(stored)) bad = 1.0;
    if (stored != 0.0) filled = 1.0;
  }
  NRC_FAST_DEVICE void measure(double shifted) {
    const double size = magnitude(shifted);
    largest = size > largest ? size : largest;
  }
  NRC_FAST_DEVICE void join_warp() {
    energy.join_warp();
    largest = warp_maximum(largest);
    bad = warp_maximum(bad);
    filled = warp_maximum(filled);
  }
};

// The largest magnitude that all rows have had so far, as an exponent; one of the lanes that know it calls.
NRC_FAST_DEVICE void keep_exponent(std::int64_t* below, double largest) {
  if (largest == 0.0) return;
  DoubleBits bits;
  bits.value = largest;
  const auto found = static_cast<std::int64_t>(2047 - (bits.bits >> 52 & 0x7ff));
  // Most rows change nothing: they only look.
  if (static_cast<std::uint64_t>(found) < static_cast<std::uint64_t>(look_at(below))) keep_smallest(below, found);
}

// ---- rows of 16 bits as they lie in shared memory: eight numbers are four words ----

template <class Row>
struct StoredBits;
template <>
struct StoredBits<BFloat16> {
  static constexpr std::uint32_t infinity = 0x7f800000u;   // in the upper half of a word
  static constexpr int exponent_shift = 3;                 // from its place there to that of float64
  static constexpr std::uint32_t kept_bits = 0x8fffe000u;  // sign and number, shifted
  static constexpr int bias = 1023 - 127;
};
template <>
struct StoredBits<Float16> {
  static constexpr std::uint32_t infinity = 0x7c000000u;
  static constexpr int exponent_shift = 6;
  static constexpr std::uint32_t kept_bits = 0x81fffc00u;
  static constexpr int bias = 1023 - 15;
};

// The number in the upper half of a word, times 2^-bias: its bits moved to where float64 has them. Zeros and subnormal
// numbers become what they are, as float64 keeps them; and two integer instructions take the place of a conversion,
// which the device does for one lane in eight cycles. What is not finite becomes a large number.
template <class Row>
NRC_FAST_DEVICE double small_double(std::uint32_t word) {
  const auto moved = static_cast<std::uint32_t>(static_cast<std::int32_t>(word) >> StoredBits<Row>::exponent_shift);
  DoubleBits bits;
  bits.bits = static_cast<std::uint64_t>(moved & StoredBits<Row>::kept_bits) << 32;
  return bits.value;
}
template <class Row>
NRC_FAST_DEVICE double small_double_unit() {
  return power_of_two(StoredBits<Row>::bias);
}

}  // namespace nrc_fast::cuda
