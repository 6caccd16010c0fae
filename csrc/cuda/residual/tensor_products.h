// Products of the rows of a warp with the basis by tensor cores: in float32 by those of 16-bit numbers, and in float64.
//
// Those of 16-bit numbers round toward zero, so that sums of products of one sign would be biased: they are begun anew
// every 64 columns, or 32 of rows that are split, and added up in float64. Of the numbers whose sum a factor is the
// products of the small ones come first, where less of them is cut off.
#pragma once

#include <type_traits>

#include "cuda/residual/tensor.h"

namespace nrc_fast::cuda {

// The larger halves of two numbers side by side, the first below.
NRC_FAST_DEVICE std::uint32_t upper_halves(std::uint32_t first, std::uint32_t second) {
  return first >> 16 | (second & 0xffff0000u);
}

union DoubleWords {
  std::uint32_t words[2];
  double value;
};

NRC_FAST_DEVICE std::uint32_t bits_of(float value) {
  FloatBits result;
  result.value = value;
  return result.bits;
}

NRC_FAST_DEVICE float float_of(std::uint32_t bits) {
  FloatBits result;
  result.bits = bits;
  return result.value;
}

// One of the numbers in some words, in float32 or, of float64 rows, as it is.
template <class Row, std::size_t count>
NRC_FAST_DEVICE auto number_at(const std::uint32_t (&words)[count], int index) {
  if constexpr (sizeof(Row) == 8) {
    DoubleWords result;
    result.words[0] = words[2 * index];
    result.words[1] = words[2 * index + 1];
    return result.value;
  } else if constexpr (sizeof(Row) == 4) {
    return float_of(words[index]);
  } else if constexpr (std::is_same_v<Row, BFloat16>) {
    return float_of(index % 2 == 0 ? words[index / 2] << 16 : words[index / 2] & 0xffff0000u);
  } else {
    return float16_to_float(static_cast<std::uint16_t>(words[index / 2] >> index % 2 * 16));
  }
}

// What a lane knows of its rows after their last step, of `wide` times eight vectors.
template <int wide>
struct LaneTotals {
  double totals[octets][wide][2];
  double energies[octets];
  std::uint32_t filled[octets];

  NRC_FAST_DEVICE void clear_totals() {
#pragma unroll
    for (int o = 0; o < octets; ++o) {
      energies[o] = 0.0;
      filled[o] = 0;
#pragma unroll
      for (int t = 0; t < wide; ++t) totals[o][t][0] = totals[o][t][1] = 0.0;
    }
  }
};

// 16-bit rows that are not shifted are multiplied as they are; others are split into three bfloat16 numbers, exactly.
template <class RowType, bool is_split, bool is_shifted, int width>
class FloatProducts : public LaneTotals<width> {
 public:
  using LaneTotals<width>::totals;
  using LaneTotals<width>::energies;
  using LaneTotals<width>::filled;
  using Row = RowType;
  using Value = float;
  static constexpr int wide = width;
  static constexpr bool is_bfloat16 = is_split || std::is_same_v<Row, BFloat16>;
  static constexpr bool is_scaled = !is_bfloat16;
  static constexpr int lane_columns = 8;
  static constexpr int row_parts = is_split ? 3 : 1;
  static constexpr int basis_parts = is_bfloat16 ? 3 : 2;
  static constexpr int basis_bytes = wide * basis_parts * fragment_bytes;
  static constexpr int record_bytes = basis_bytes + (is_shifted ? lane_columns * 4 * 8 : 0);
  // Split rows take three times the registers.
  static constexpr int columns_at_once = is_split ? 4 : 8;
  // Rows as they are come two columns at a time, by ldmatrix.
  static constexpr int piece_columns = is_split ? 16 / static_cast<int>(sizeof(Row)) : 2;
  static constexpr int fold_steps = is_split ? 1 : 2;

  NRC_FAST_DEVICE void clear() {
    this->clear_totals();
    clear_sums();
  }

  NRC_FAST_DEVICE void add(const char* rows, const char* record) {
    // Shifted float32 rows have no registers left for more than one turn.
    [[maybe_unused]] constexpr int turns = is_shifted && sizeof(Row) == 4 ? 1 : 2;
#pragma unroll turns
    for (int first = 0; first < lane_columns; first += columns_at_once) {
      keep_order();  // or too much is loaded ahead for the registers
      add_columns(rows, record, first);
    }
  }

  NRC_FAST_DEVICE void fold() {
#pragma unroll
    for (int o = 0; o < octets; ++o) {
      energies[o] += static_cast<double>(energy_sums_[o]);
#pragma unroll
      for (int i = 0; i < wide * 2; ++i) {
        totals[o][i / 2][i % 2] += static_cast<double>(sums_[o / 2][i / 2][o % 2 * 2 + i % 2]);
      }
    }
    clear_sums();
  }

 private:
  static constexpr int pieces = lane_columns * static_cast<int>(sizeof(Row)) / 16;

  NRC_FAST_DEVICE void clear_sums() {
#pragma unroll
    for (int o = 0; o < octets; ++o) energy_sums_[o] = 0.0f;
#pragma unroll
    for (int i = 0; i < octets / 2 * wide * 4; ++i) sums_[i / 4 / wide][i / 4 % wide][i % 4] = 0.0f;
  }

  // Operands of the rows: of each part, of two octets, and of 16 columns at a time.
  using Operands = std::uint32_t[row_parts][octets / 2][columns_at_once / 4][4];

  // Some of the columns of a lane, with all vectors.
  NRC_FAST_DEVICE void add_columns(const char* rows, const char* record, int first_column) {
    Operands left;
    if constexpr (is_split) {
      split_rows(rows + lane_slot(), record + basis_bytes + thread_index() % 4 * 16, first_column, left);
    } else {
      load_rows(rows, left);
    }
    // Registers do not suffice for two where rows are unpacked, shifted and split.
    constexpr int at_once = wide < 2 || (is_shifted && sizeof(Row) == 2) ? 1 : 2;
    using Basis = Numbers<columns_at_once / 2>;
    const char* const fragments =
        record + first_column * (warp_lanes * 2) + thread_index() % warp_lanes * static_cast<int>(sizeof(Basis));
#pragma unroll
    for (int first = 0; first < wide; first += at_once) {
      if constexpr (is_shifted) keep_order();  // here too, on some cards
      Basis right[at_once][basis_parts];
#pragma unroll
      for (int t = 0; t < at_once && first + t < wide; ++t) {
#pragma unroll
        for (int p = 0; p < basis_parts; ++p) {
          right[t][p] = read<Basis>(fragments + ((first + t) * basis_parts + p) * fragment_bytes);
        }
      }
      // From the smallest products on; successive instructions add to different sums.
#pragma unroll
      for (int part = basis_parts - 1; part >= 0; --part) {
#pragma unroll
        for (int row_part = row_parts - 1; row_part >= 0; --row_part) {
          if (row_part > part) continue;
#pragma unroll
          for (int k = 0; k < columns_at_once / 4; ++k) {
#pragma unroll
            for (int t = 0; t < at_once && first + t < wide; ++t) {
#pragma unroll
              for (int m = 0; m < octets / 2; ++m) {
                const auto& vectors = right[t][part - row_part].values;
                multiply_add<is_bfloat16>(sums_[m][first + t], left[row_part][m][k], vectors[2 * k],
                                          vectors[2 * k + 1]);
              }
            }
          }
        }
      }
    }
  }

  // Rows as they are.
  NRC_FAST_DEVICE void load_rows(const char* rows, Operands& left) {
    const int lane = thread_index() % warp_lanes;
    const char* const place = rows + lane / 8 % 2 * fragment_bytes + lane / 16 * 128 + lane % 8 * 16;
#pragma unroll
    for (int m = 0; m < octets / 2; ++m) {
#pragma unroll
      for (int k = 0; k < columns_at_once / 4; ++k) {
        load_matrices(left[0][m][k], place + m * 2 * fragment_bytes + k * 256);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const std::uint32_t word[1] = {left[0][m][k][i]};
          const int octet = 2 * m + i % 2;
          filled[octet] |= filled_bits<Row>(word);
          const float values[2] = {number_at<Row>(word, 0), number_at<Row>(word, 1)};
          add_energy(octet, values);
        }
      }
    }
  }

  // Rows in float32, shifted, as three numbers whose sum they are: each is cut off behind 8 bits.
  NRC_FAST_DEVICE void split_rows(const char* rows, const char* shift, int first_column, Operands& left) {
    using Raw = Numbers<columns_at_once* static_cast<int>(sizeof(Row)) / 4>;
    Raw raw[octets];
#pragma unroll
    for (int o = 0; o < octets; ++o) {
      const int place = first_column * static_cast<int>(sizeof(Row));
      raw[o] = read<Raw>(rows + (o * pieces + place / 16) * fragment_bytes + place % 16);
    }
    [[maybe_unused]] Numbers<4> high{};
    [[maybe_unused]] Numbers<4> low{};
    if constexpr (is_shifted) {
      high = read<Numbers<4>>(shift + first_column * 16);
      low = read<Numbers<4>>(shift + (lane_columns + first_column) * 16);
    }
#pragma unroll
    for (int o = 0; o < octets; ++o) {
      filled[o] |= filled_bits<Row>(raw[o].values);
#pragma unroll
      for (int pair = 0; pair < columns_at_once / 2; ++pair) {
        float values[2] = {number_at<Row>(raw[o].values, 2 * pair), number_at<Row>(raw[o].values, 2 * pair + 1)};
        if constexpr (is_shifted) {
          values[0] = values[0] - float_of(high.values[2 * pair]) - float_of(low.values[2 * pair]);
          values[1] = values[1] - float_of(high.values[2 * pair + 1]) - float_of(low.values[2 * pair + 1]);
        }
        add_energy(o, values);
#pragma unroll
        for (int p = 0; p < row_parts; ++p) {
          const std::uint32_t bits[2] = {bits_of(values[0]), bits_of(values[1])};
          left[p][o / 2][pair / 2][pair % 2 * 2 + o % 2] = upper_halves(bits[0], bits[1]);
          values[0] -= float_of(bits[0] & 0xffff0000u);
          values[1] -= float_of(bits[1] & 0xffff0000u);
        }
      }
    }
  }

  NRC_FAST_DEVICE void add_energy(int octet, const float (&values)[2]) {
    energy_sums_[octet] += values[0] * values[0];
    energy_sums_[octet] += values[1] * values[1];
  }

  float sums_[octets / 2][wide][4];
  float energy_sums_[octets];
};

struct alignas(16) Pair {
  double values[2];
};

template <class RowType, int width>
class DoubleProducts : public LaneTotals<width> {
 public:
  using LaneTotals<width>::totals;
  using LaneTotals<width>::energies;
  using LaneTotals<width>::filled;
  using Row = RowType;
  using Value = double;
  static constexpr int wide = width;
  static constexpr bool is_scaled = false;
  static constexpr int lane_columns = sizeof(Row) == 2 ? 8 : 4;
  static constexpr int basis_parts = lane_columns / 2;
  static constexpr int basis_bytes = wide * basis_parts * fragment_bytes;
  static constexpr int record_bytes = basis_bytes + lane_columns * 4 * 8;
  static constexpr int columns_at_once = 2;
  static constexpr int piece_columns = 16 / static_cast<int>(sizeof(Row));
  static constexpr int fold_steps = 1;

  NRC_FAST_DEVICE void clear() { this->clear_totals(); }

  NRC_FAST_DEVICE void add(const char* rows, const char* record) {
    const int lane = thread_index() % warp_lanes;
#pragma unroll 1  // or too much is loaded ahead for the registers
    for (int first = 0; first < lane_columns; first += 4) {
      double values[octets][4];
      read_rows(rows, record + basis_bytes + lane % 4 * 16, first, values);
#pragma unroll
      for (int t = 0; t < wide; ++t) {
        const char* const fragments = record + (t * basis_parts + first / 2) * fragment_bytes + lane * 16;
        const Pair basis[2] = {read<Pair>(fragments), read<Pair>(fragments + fragment_bytes)};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int o = 0; o < octets; ++o) multiply_add(totals[o][t], values[o][k], basis[k / 2].values[k % 2]);
        }
      }
    }
  }

  NRC_FAST_DEVICE void fold() {}

 private:
  static constexpr int pieces = lane_columns * static_cast<int>(sizeof(Row)) / 16;

  // Four columns of every row.
  NRC_FAST_DEVICE void read_rows(const char* rows, const char* shift, int first, double (&values)[octets][4]) {
    const Pair shifts[2] = {read<Pair>(shift + first / 2 * 64), read<Pair>(shift + (first / 2 + 1) * 64)};
    constexpr int count = 4 / pieces;
    const char* const place = rows + lane_slot() + first * static_cast<int>(sizeof(Row));
#pragma unroll
    for (int o = 0; o < octets; ++o) {
#pragma unroll
      for (int p = 0; p < pieces; ++p) {
        const auto words =
            read<Numbers<count* static_cast<int>(sizeof(Row)) / 4>>(place + (o * pieces + p) * fragment_bytes);
        filled[o] |= filled_bits<Row>(words.values);
#pragma unroll
        for (int c = 0; c < count; ++c) {
          values[o][p * count + c] = static_cast<double>(number_at<Row>(words.values, c));
        }
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        values[o][c] -= shifts[c / 2].values[c % 2];
        energies[o] += values[o][c] * values[o][c];
      }
    }
  }
};

}  // namespace nrc_fast::cuda
