#include "cuda/emulation/tensor_core.h"

#include <algorithm>
#include <cmath>

namespace nrc_fast::cuda::emulation {
namespace {

constexpr int products = 16;
constexpr int nothing = -2000;  // below the exponent of every product

double toward_zero_float(double value) {
  if (value == 0.0) return 0.0;
  const int exponent = std::max(std::ilogb(value), -126);
  return std::ldexp(std::trunc(std::ldexp(value, 23 - exponent)), exponent - 23);
}

// Adds the products that a tensor core adds at once.
template <int at_once>
float add_at_once(int extra_bits, float sum, const Factor* left, const Factor* right) {
  double terms[at_once];
  int largest = sum == 0.0f ? nothing : std::ilogb(sum);
  double plain = static_cast<double>(sum);
  for (int k = 0; k < at_once; ++k) {
    terms[k] = left[k].value * right[k].value;
    plain += terms[k];
    if (terms[k] != 0.0) largest = std::max(largest, left[k].exponent + right[k].exponent);
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest <= nothing) return 0.0f;
  const double up = std::ldexp(1.0, 23 + extra_bits - largest);
  double total = std::trunc(static_cast<double>(sum) * up);
  for (int k = 0; k < at_once; ++k) total += std::trunc(terms[k] * up);
  return static_cast<float>(toward_zero_float(total / up));
}

}  // namespace

float widened_float16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const int fraction = bits & 0x3ff;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  if (exponent == 31) value = fraction == 0 ? HUGE_VALF : std::nanf("");
  return (bits & 0x8000) != 0 ? -value : value;
}

float widened_bfloat16(std::uint16_t bits) { return bits_to_float(static_cast<std::uint32_t>(bits) << 16); }

Factor factor(float value) {
  return {static_cast<double>(value), value == 0.0f || !std::isfinite(value) ? -1000 : std::ilogb(value)};
}

float dot_add(const TensorCore& core, float sum, const Factor* left, const Factor* right) {
  const auto add = core.products_at_once == 16  ? &add_at_once<16>
                   : core.products_at_once == 8 ? &add_at_once<8>
                                                : &add_at_once<4>;
  for (int k = 0; k < products; k += core.products_at_once) sum = add(core.extra_bits, sum, left + k, right + k);
  return sum;
}

}  // namespace nrc_fast::cuda::emulation
