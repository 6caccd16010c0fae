// An instruction for pairs, emulated or that of Arm, against its definition in scalar steps, and the check of a
// processor's pairs against kernels that are wrong; compiled and run by test_pairs.py, for tiles with
// NRC_FAST_TEST_TILES.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#define NRC_FAST_ISA emulated
#if !defined(NRC_FAST_NEON)
#define NRC_FAST_EMULATED_BFLOAT16
#endif
#include "cpu/gram/check_pairs.h"
#include "cpu/gram/pack.h"
#if defined(NRC_FAST_TEST_TILES)
#include "cpu/gram/amx_kernel.h"
#else
#include "cpu/gram/pair_kernel.h"
#endif
#include "cpu/gram/tile.h"

namespace {

using namespace nrc_fast;
using namespace nrc_fast::emulated;

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

#if defined(NRC_FAST_TEST_TILES)

// What TDPBF16PS adds to a number.
float tile_product(float sum, const Pair* row, const Pair* column) {
  float low = 0.0F;
  float high = 0.0F;
  for (int k = 0; k < tile_lines; ++k) {
    const Pair other = column[k * tile_lines];
    low = step(low, row[k] << 16, other << 16);
    high = step(high, row[k] & 0xffff0000U, other & 0xffff0000U);
  }
  return flushed(flushed(sum) + flushed(low + high));
}

int wrong_products() {
  int wrong = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const bool any = trial % 8 == 0;  // seldom: most of their sums are no numbers
    Pair left[tile_size];
    Pair right[tile_size];
    float sums[tile_size];
    for (int i = 0; i < tile_size; ++i) {
      left[i] = random_pair(any);
      right[i] = random_pair(any);
      sums[i] = as_float((random_bits() & 0x81ffffffU) + 0x3f000000U);
    }
    float found[tile_size];
    Tiles tiles;
    tiles.read<0>(sums, vector_bytes);
    tiles.read<1>(left, vector_bytes);
    tiles.read<2>(right, vector_bytes);
    tiles.multiply<0, 1, 2>();
    tiles.write<0>(found, vector_bytes);
    for (int m = 0; m < tile_lines; ++m) {
      for (int n = 0; n < tile_lines; ++n) {
        const int place = m * tile_lines + n;
        if (!are_same(found[place], tile_product(sums[place], left + m * tile_lines, right + n))) ++wrong;
      }
    }
  }
  return wrong;
}

#else

#if defined(NRC_FAST_NEON)

// The numbers are of ordinary size: a double holds their sums.
constexpr bool takes_any = false;

float rounded_to_odd(double value) {
  float nearest = static_cast<float>(value);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) nearest = std::nextafter(nearest, 0.0F);
  return static_cast<double>(nearest) == value ? nearest : as_float(bits_of(nearest) | 1U);
}

float product(float sum, std::uint32_t left, std::uint32_t right) {
  const auto factor = [](std::uint32_t bits) { return static_cast<double>(as_float(bits)); };
  const double both =
      factor(left & 0xffff0000U) * factor(right & 0xffff0000U) + factor(left << 16) * factor(right << 16);
  return rounded_to_odd(static_cast<double>(sum) + static_cast<double>(rounded_to_odd(both)));
}

#else

constexpr bool takes_any = true;

float product(float sum, std::uint32_t left, std::uint32_t right) {
  return step(step(sum, left & 0xffff0000U, right & 0xffff0000U), left << 16, right << 16);
}

#endif

int wrong_products() {
  constexpr int count = lanes<float>;
  int wrong = 0;
  for (int trial = 0; trial < 3200000 / count; ++trial) {
    const bool any = takes_any && trial % 2 == 0;
    float sums[count];
    Pair left[count];
    Pair right[count];
    for (int i = 0; i < count; ++i) {
      sums[i] = as_float(any ? random_bits() : (random_bits() & 0x81ffffffU) + 0x3f000000U);
      left[i] = random_pair(any);
      right[i] = random_pair(any);
    }
    float found[count];
    store(found, dot_pairs(load<Native<float> >(sums), load<Native<Pair> >(left), load<Native<Pair> >(right)));
    for (int i = 0; i < count; ++i) {
      if (!are_same(found[i], product(sums[i], left[i], right[i]))) ++wrong;
    }
    store(found, add_products(load<Native<float> >(sums), left[0], load<Native<Pair> >(right)));
    for (int i = 0; i < count; ++i) {
      if (!are_same(found[i], product(sums[i], left[0], right[i]))) ++wrong;
    }
  }
  return wrong;
}

#endif

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
  gram_pairs().tile(task, ahead);
  task.products.tile[0] *= 1.0001;
}

// Rows are left out.
void tile_of_fewer_rows(const PairTileArguments& task, RowsAhead& ahead) {
  PairTileArguments less = task;
  less.products.row_count -= 16;
  gram_pairs().tile(less, ahead);
}

void tile_without_offsets(const PairTileArguments& task, RowsAhead& ahead) {
  PairTileArguments plain = task;
  plain.offsets = nullptr;
  gram_pairs().tile(plain, ahead);
}

}  // namespace

int main() {
  const PairKernels& good = gram_pairs();
  const GramKernels plain = float32_kernels();
  const auto is_offered = [&](auto* pack, auto* tile) {
    PairKernels kernels = good;
    kernels.pack = pack;
    kernels.tile = tile;
    return pairs_are_right(kernels, plain) ? 1 : 0;
  };
  std::printf("%d wrong products; right: %d; ", wrong_products(), is_offered(good.pack, good.tile));
  std::printf("wrong: %d %d %d %d\n", is_offered(pack_none, good.tile), is_offered(good.pack, tile_off),
              is_offered(good.pack, tile_of_fewer_rows), is_offered(good.pack, tile_without_offsets));
  return 0;
}
