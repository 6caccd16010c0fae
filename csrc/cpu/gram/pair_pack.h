// How bfloat16 rows are packed for processors that multiply pairs of them: in the panels of the float32 kernel, two
// rows in each 32 bits.
//
// Products of bfloat16 numbers are exact in float32, but h - shift is no bfloat16 number. What is multiplied is
// y = h - c for a c of each column: 0 where the mean is small against the spread, else the shift rounded to bfloat16,
// where all h - c are bfloat16 numbers, as they are within a factor of 2 of c. What is left, e = shift - c, is undone
// in float64: with x = h - shift of N rows and t = sum x,
//   sum x x^T = sum y y^T - e (t + N e / 2)^T - (t + N e / 2) e^T.
// Where a column allows neither, the block is left to the float32 kernel: h - shift split into bfloat16 numbers would
// take three of them to be as exact, and six products.
#pragma once

#include "cpu/gram/panel.h"
#include "cpu/machine/bfloat.h"

namespace nrc_fast::NRC_FAST_ISA {

static_assert(panel_width<Pair> == panel_width<float> && panel_step<Pair> == panel_step<float>);

// Rows of fewer columns are not worth being packed twice.
#if defined(NRC_FAST_EMULATED_BFLOAT16)
constexpr std::int64_t least_columns = 1;  // to be tested, not to be fast
#else
constexpr std::int64_t least_columns = 128;
#endif

// Of fewer rows the float32 kernel has a smaller error: see the chains of pair_kernel.h.
#if defined(NRC_FAST_NEON)
constexpr std::int64_t least_rows = 160;
#else
constexpr std::int64_t least_rows = 0;
#endif

// Limits of the sum of squares of a column over a block. What the instruction takes for zero is below 2^-126, in a
// factor as in a sum: less than 2^-30 of the least one over 256 rows. The largest leaves room for the sums.
constexpr float least_energy = 0x1p-88F;
constexpr float largest_energy = 0x1p100F;

// With fewer rows a sum of |y_i y_j| may be far above that of |x_i x_j|, whatever the sums of squares.
constexpr std::int64_t least_moved_rows = 64;

// One vector of columns of a block.
struct PairColumns {
  const PairArguments& task;
  std::int64_t column;
  std::int64_t count;    // of the columns that are there
  const float* shifted;  // in the float32 panel, and where its next row is
  Pair* target;          // in the panel of pairs
  std::int64_t width;    // of both panels
};

// What is subtracted from a column, and whether its sums stay as exact as those of h - shift.
struct Centers {
  Native<float> center;
  Native<float> energy;
  Vector<std::int32_t, lanes<float>> is_near;
};

NRC_FAST_INLINE Native<float> energies(const PairColumns& columns) {
  constexpr int chains = 4;
  Native<float> sums[chains] = {};
  std::int64_t row = 0;
  const auto add = [&](int chain) __attribute__((always_inline)) {
    const auto value = load<Native<float>>(columns.shifted + row * columns.width);
    sums[chain] += value * value;
    ++row;
  };
  while (row + chains <= columns.task.block.row_count) {
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) add(chain);
  }
  while (row < columns.task.block.row_count) add(0);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

NRC_FAST_INLINE Native<float> rounded_to_bfloat16(Native<float> value) {
  const auto bits = reinterpret<Native<std::uint32_t>>(value);
  return reinterpret<Native<float>>((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}

// The centers of the columns: sum y^2 = sum x^2 + e (2 t + N e) is at most twice sum x^2, so that roundings, which are
// relative to it, stay below those that sums of float32 products are known by.
NRC_FAST_INLINE Centers choose_centers(const PairColumns& columns) {
  const PackArguments& block = columns.task.block;
  const auto high = load<Native<float>>(static_cast<const float*>(block.shift_high) + columns.column);
  const auto low = load<Native<float>>(static_cast<const float*>(block.shift_low) + columns.column);
  const auto sums = load<Native<float>>(static_cast<const float*>(block.column_sums) + columns.column);
  const auto rows = static_cast<float>(block.row_count);
  const Native<float> energy = energies(columns);
  const Native<float> center =
      high * (2.0F * sums + rows * high) <= energy ? Native<float>{} : rounded_to_bfloat16(high);
  const Native<float> rest = (high - center) + low;
  const auto put_rest = [&](int half) __attribute__((always_inline)) {
    const auto part = [&](Native<float> value) __attribute__((always_inline)) { return widened_half(value, half); };
    const Native<double> offset = part(high - center) + part(low);
    const std::int64_t place = columns.column + half * lanes<double>;
    store(columns.task.offsets + place, offset);
    store(columns.task.half_sums + place, part(sums) + 0.5 * static_cast<double>(block.row_count) * offset);
  };
  put_rest(0);
  put_rest(1);
  if (block.row_count < least_moved_rows) return {center, energy, rest == 0.0F};
  return {center, energy, rest * (2.0F * sums + rows * rest) <= energy};
}

// Pairs of so many rows, up to whole steps.
template <int step>
NRC_FAST_INLINE std::int64_t pairs_of(std::int64_t row_count) {
  return (row_count + 2 * step - 1) / (2 * step) * step;
}

// Writes the pairs, and zeros behind them, and says of each column whether they are good.
template <int step>
NRC_FAST_INLINE Vector<std::int32_t, lanes<float>> write_pairs(const PairColumns& columns, const Centers& centers) {
  const PackArguments& block = columns.task.block;
  const auto* const rows = static_cast<const BFloat16*>(block.rows) + columns.column;
  Native<std::uint32_t> lost = {};
  Native<std::uint32_t> seen = {};
  const auto centered = [&](std::int64_t row) __attribute__((always_inline)) {
    const BFloat16* const source = rows + row * block.row_stride;
    const Native<float> value =
        columns.count >= lanes<float> ? load_rows_as<float>(source) : load_partial_as<float>(source, columns.count);
    const auto bits = reinterpret<Native<std::uint32_t>>(value - centers.center);
    lost |= bits;
    return bits;
  };
  Pair* target = columns.target;
  std::int64_t row = 0;
  const auto put = [&](Native<Pair> pair) __attribute__((always_inline)) {
    seen |= pair;
    store(target, pair);
    target += columns.width;
  };
  for (; row + 2 <= block.row_count; row += 2) put(centered(row) >> 16 | (centered(row + 1) & 0xffff0000u));
  if (row < block.row_count) put(centered(row) >> 16);
  for (std::int64_t pair = (block.row_count + 1) / 2; pair < pairs_of<step>(block.row_count); ++pair)
    put(Native<Pair>{});
  const auto is_exact = (lost & 0xffffu) == 0u;
  const auto is_zero = (seen & 0x7fff7fffu) == 0u;
  const auto is_in_range = (centers.energy >= least_energy) & (centers.energy <= largest_energy);
  return is_exact & (is_zero | (is_in_range & centers.is_near));
}

// Packs a block once more, as pairs; whether all columns are good.
template <int step>
bool pack_pairs(const PairArguments& task) {
  const PackArguments& block = task.block;
  if (block.row_count < least_rows) return false;
  for (std::int64_t panel = block.first_panel; panel < block.last_panel; ++panel) {
    const std::int64_t first = panel * panel_width<Pair>;
    const int width = width_of<Pair>(panel, block.columns);
    const float* const shifted = static_cast<const float*>(block.packed) + offset_of<float>(panel, block.row_count);
    Pair* const pairs = static_cast<Pair*>(task.pairs) + offset_of<Pair>(panel, pairs_of<step>(block.row_count));
    Vector<std::int32_t, lanes<float>> are_good = ~Vector<std::int32_t, lanes<float>>{};
    for (int c = 0; c < width; c += lanes<float>) {
      const PairColumns columns = {task, first + c, block.columns - first - c, shifted + c, pairs + c, width};
      are_good &= write_pairs<step>(columns, choose_centers(columns));
    }
    if (horizontal_sum<std::int32_t, lanes<float>>(are_good) != -lanes<float>) return false;
  }
  return true;
}

// Undoes the centers in a tile that was just filled.
NRC_FAST_INLINE void move_tile(const PairTileArguments& task) {
  constexpr int N = lanes<double>;
  constexpr int width = panel_width<Pair>;
  const TileArguments& products = task.products;
  const std::int64_t left = products.left_panel * width;
  const std::int64_t right = products.right_panel * width;
  const int right_width = width_of<Pair>(products.right_panel, products.columns);
  for (int r = 0; r < width && left + r < products.columns; ++r) {
    const double offset = task.offsets[left + r];
    const double half_sum = task.half_sums[left + r];
    const int needed = left == right ? r + 1 : right_width;
    for (int c = 0; c < needed; c += N) {
      double* const sums = products.tile + r * width + c;
      const auto offsets = load<Native<double>>(task.offsets + right + c);
      const auto half_sums = load<Native<double>>(task.half_sums + right + c);
      store(sums, load<Native<double>>(sums) - offset * half_sums - half_sum * offsets);
    }
  }
}

}  // namespace nrc_fast::NRC_FAST_ISA
