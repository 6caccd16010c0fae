// Sums of products as a tensor core forms them: the products and the accumulator are cut to the grid of the largest of
// them, with a few bits more than float32 has, added exactly, and cut again (toward zero). The number of products added
// at once and of the extra bits are those that north-numerical-computing/MATLAB-tensor-core reports for Hopper.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace nrc_fast::cuda::emulation {

inline float bits_to_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float widened_float16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const int fraction = bits & 0x3ff;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  if (exponent == 31) value = fraction == 0 ? HUGE_VALF : std::nanf("");
  return (bits & 0x8000) != 0 ? -value : value;
}

template <bool is_bfloat16>
float widened(std::uint16_t bits) {
  return is_bfloat16 ? bits_to_float(static_cast<std::uint32_t>(bits) << 16) : widened_float16(bits);
}

inline double toward_zero_float(double value) {
  if (value == 0.0) return 0.0;
  const int exponent = std::max(std::ilogb(value), -126);
  return std::ldexp(std::trunc(std::ldexp(value, 23 - exponent)), exponent - 23);
}

constexpr int products_at_once = 16;
constexpr int extra_bits = 2;

struct Factor {
  double value;
  int exponent;
};

inline Factor factor(float value) {
  return {static_cast<double>(value), value == 0.0f || !std::isfinite(value) ? -1000 : std::ilogb(value)};
}

inline float dot_add(float sum, const Factor* left, const Factor* right) {
  double products[products_at_once];
  int largest = sum == 0.0f ? -2000 : std::ilogb(sum);
  double plain = static_cast<double>(sum);
  for (int k = 0; k < products_at_once; ++k) {
    products[k] = left[k].value * right[k].value;
    plain += products[k];
    if (products[k] != 0.0) largest = std::max(largest, left[k].exponent + right[k].exponent);
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest <= -2000) return 0.0f;
  const double up = std::ldexp(1.0, 23 + extra_bits - largest);
  double total = std::trunc(static_cast<double>(sum) * up);
  for (int k = 0; k < products_at_once; ++k) total += std::trunc(products[k] * up);
  return static_cast<float>(toward_zero_float(total / up));
}

}  // namespace nrc_fast::cuda::emulation
