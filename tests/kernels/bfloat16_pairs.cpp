// The emulated instruction against its definition in scalar steps, and the check of a processor's pairs against kernels
// that are wrong; compiled and run by test_pairs.py.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#define NRC_FAST_ISA avx512bf16_emulated
#define NRC_FAST_EMULATED_BFLOAT16
#include "cpu/gram/check_pairs.h"
#include "cpu/gram/pack.h"
#include "cpu/gram/pair_kernel.h"

namespace {

using namespace nrc_fast;
using namespace nrc_fast::avx512bf16_emulated;

float as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float flushed(float value) { return std::fabs(value) < 0x1p-126F ? std::copysign(0.0F, value) : value; }

float step(float sum, std::uint32_t left, std::uint32_t right) {
  return flushed(std::fma(flushed(as_float(left)), flushed(as_float(right)), flushed(sum)));
}

bool are_same(float left, float right) { return (left != left && right != right) || bits_of(left) == bits_of(right); }

std::uint64_t state = 1;

std::uint32_t random_bits() {
  state = state * 6364136223846793005U + 1442695040888963407U;
  return static_cast<std::uint32_t>(state >> 32);
}

// All bit patterns, or numbers of ordinary size whose sums cancel now and then.
std::uint32_t random_pair(bool any) { return any ? random_bits() : (random_bits() & 0x81ff81ffU) + 0x3f003f00U; }

int wrong_products() {
  int wrong = 0;
  for (int trial = 0; trial < 200000; ++trial) {
    const bool any = trial % 2 == 0;
    float sums[16];
    Pair left[16];
    Pair right[16];
    for (int i = 0; i < 16; ++i) {
      sums[i] = as_float(any ? random_bits() : (random_bits() & 0x81ffffffU) + 0x3f000000U);
      left[i] = random_pair(any);
      right[i] = random_pair(any);
    }
    float found[16];
    store(found, dot_pairs(load<Native<float>>(sums), load<Native<Pair>>(left), load<Native<Pair>>(right)));
    for (int i = 0; i < 16; ++i) {
      const float high = step(sums[i], left[i] & 0xffff0000U, right[i] & 0xffff0000U);
      if (!are_same(found[i], step(high, left[i] << 16, right[i] << 16))) ++wrong;
    }
  }
  return wrong;
}

// Of the float32 kernels, what the check asks for.
GramKernels float32_kernels() {
  GramKernels kernels = {};
  kernels.panel_width = panel_width<float>;
  kernels.panel_step = panel_step<float>;
  kernels.element_size = sizeof(float);
  kernels.pack[static_cast<int>(DType::bfloat16)] = pack<float, BFloat16>;
  kernels.tile = gram_tile<float>;
  return kernels;
}

bool pack_none(const PairArguments&) { return false; }

// The first number of a tile is off by a hundredth of a percent.
void tile_off(const PairTileArguments& task, RowsAhead& ahead) {
  pair_tile(task, ahead);
  task.products.tile[0] *= 1.0001;
}

// The last two rows are left out.
void tile_of_one_pair_less(const PairTileArguments& task, RowsAhead& ahead) {
  PairTileArguments less = task;
  --less.products.row_count;
  pair_tile(less, ahead);
}

void tile_without_offsets(const PairTileArguments& task, RowsAhead& ahead) {
  PairTileArguments plain = task;
  plain.offsets = nullptr;
  pair_tile(plain, ahead);
}

}  // namespace

int main() {
  const PairKernels& good = gram_pairs();
  const GramKernels plain = float32_kernels();
  std::printf("%d wrong products; ", wrong_products());
  std::printf("right: %d; ", pairs_are_right(good, plain));
  std::printf("wrong: %d %d %d %d\n", pairs_are_right({1, pack_none, good.tile}, plain),
              pairs_are_right({1, good.pack, tile_off}, plain),
              pairs_are_right({1, good.pack, tile_of_one_pair_less}, plain),
              pairs_are_right({1, good.pack, tile_without_offsets}, plain));
  return 0;
}
