// Sums of products as a tensor core forms them: the products and the accumulator are cut to the grid of the largest of
// them, with a few bits more than float32 has, added exactly, and cut again (toward zero). How many products are added
// at once, and how many bits are extra, differs between cards.
#pragma once

#include <cstdint>
#include <cstring>

namespace nrc_fast::cuda::emulation {

inline float bits_to_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float widened_float16(std::uint16_t bits);
float widened_bfloat16(std::uint16_t bits);

struct TensorCore {
  int products_at_once;  // 4, 8 or 16
  int extra_bits;
};

// As north-numerical-computing/MATLAB-tensor-core reports for V100, which here stands for sm_75; for A100 and Ada; and
// for H100 and B200.
constexpr TensorCore tensor_core_of(int capability) {
  if (capability < 80) return {4, 0};
  return capability < 90 ? TensorCore{8, 1} : TensorCore{16, 2};
}

struct Factor {
  double value;
  int exponent;
};

Factor factor(float value);

// Adds 16 products.
float dot_add(const TensorCore& core, float sum, const Factor* left, const Factor* right);

}  // namespace nrc_fast::cuda::emulation
