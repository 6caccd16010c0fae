// What a thread makes of the chunks of rows that it has copied: three bfloat16 numbers of each number, shifted, scaled
// where that is wanted, and looked at while they are in registers.
#pragma once

#include "cuda/gram/row_copies.h"
#include "cuda/gram/split.h"
#include "cuda/gram/tensor_findings.h"

namespace nrc_fast::cuda {

// Turns chunks into planes, and keeps what it sees.
template <class Gram>
class RowConversion {
 public:
  using Row = typename Gram::Row;

  NRC_FAST_DEVICE RowConversion(const RowGramArguments& arguments, const double* shift)
      : arguments_(arguments), shift_(shift + thread_index() % Gram::row_chunks * chunk_columns) {
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) sums_[i] = 0.0;
  }

  // Of a row that is no wider than a tile. `row` is that of the thread's chunk, among all of the launch.
  NRC_FAST_DEVICE void convert(const Row (&stored)[chunk_columns], int row, char* planes) {
    double values[chunk_columns];
    const bool is_there = row < arguments_.rows();
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) values[i] = is_there ? as_double(stored[i]) - shift_[i] : 0.0;
    see(stored, values, row);
    if (arguments_.of.has_norm_1) scale_to_norm_1(values);
    write(values, planes);
  }

  // Of both sides of a tile on the diagonal: each row is multiplied with a factor, 0 where it is not there, and its
  // energy is kept; null where that is not wanted.
  NRC_FAST_DEVICE void convert_diagonal(const Row (&stored)[chunk_columns], int row, double factor, double* energies,
                                        char* planes) {
    double values[chunk_columns];
    shifted(0, stored, factor, values);
    see(stored, values, row);
    write(values, planes);
    if (energies != nullptr) keep_energy(stored, values, row, energies);
  }

  // Of one side of another tile, whose columns those on the diagonal look at.
  NRC_FAST_DEVICE void convert_side(int side, const Row (&stored)[chunk_columns], double factor, char* planes) const {
    double values[chunk_columns];
    shifted(side, stored, factor, values);
    write(values, planes + side * Gram::side_bytes);
  }

  NRC_FAST_DEVICE void add_to(double* sums) {
    double* const target = sums + thread_index() * chunk_columns;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      target[i] += sums_[i];
      sums_[i] = 0.0;
    }
  }

  NRC_FAST_DEVICE void keep_largest(std::int64_t* below) {
    const double largest = warp_maximum(from_upper_half(largest_));
    if (thread_index() % warp_lanes == 0) keep_exponent(below, largest);
  }

 private:
  NRC_FAST_DEVICE void shifted(int side, const Row (&stored)[chunk_columns], double factor,
                               double (&values)[chunk_columns]) const {
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      values[i] = (as_double(stored[i]) - shift_[side * Gram::size + i]) * factor;
    }
  }

  NRC_FAST_DEVICE void see(const Row (&stored)[chunk_columns], const double (&values)[chunk_columns], int row) {
    bool is_filled = false;
    bool is_bad = false;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      is_filled = is_filled || as_double(stored[i]) != 0.0;
      const std::uint32_t half = upper_half(values[i]);
      is_bad = is_bad || half >= nonfinite_half;
      largest_ = larger(largest_, half);
      if constexpr (!Gram::has_targets) sums_[i] += values[i];
    }
    if (arguments_.findings.masks.filled == nullptr) return;
    // The rows of a stage are one half of a word.
    const std::uint32_t bit = 1u << (row % mask_rows);
    const std::int64_t word = (arguments_.first_row + row) / mask_rows;
    mark_rows(arguments_.findings.masks, word, is_filled ? bit : 0u, is_bad ? bit : 0u);
  }

  NRC_FAST_DEVICE static void scale_to_norm_1(double (&values)[chunk_columns]) {
    RowEnergy<false> energy;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) energy.add(values[i]);
    join_row(energy);
    const double scale = energy.inverse_norm();
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) values[i] = scale == 0.0 ? 0.0 : values[i] * scale;
  }

  NRC_FAST_DEVICE void keep_energy(const Row (&stored)[chunk_columns], const double (&values)[chunk_columns], int row,
                                   double* energies) const {
    RowEnergy<false> energy;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      energy.add(arguments_.of.has_shifted_energies ? values[i] : as_double(stored[i]));
    }
    join_row(energy);
    if (thread_index() % Gram::row_chunks == 0 && row < arguments_.rows()) energies[row] = energy.sum;
  }

  // The lanes of a row lie side by side.
  NRC_FAST_DEVICE static void join_row(RowEnergy<false>& energy) {
#pragma unroll
    for (int mask = Gram::row_chunks / 2; mask > 0; mask /= 2) energy.sum += shuffle_xor(energy.sum, mask);
  }

  NRC_FAST_DEVICE static void write(const double (&values)[chunk_columns], char* planes) {
    ChunkWords parts[Gram::parts];
    split(values, parts);
    char* const chunk = planes + thread_chunk_offset<Gram>();
#pragma unroll
    for (int part = 0; part < Gram::parts; ++part) {
      *static_cast<ChunkWords*>(static_cast<void*>(chunk + part * Gram::part_bytes)) = parts[part];
    }
  }

  const RowGramArguments& arguments_;
  const double* shift_;
  double sums_[chunk_columns];
  std::uint32_t largest_ = 0;  // upper halves of |h - shift|
};

// Rows of more than one tile, without targets.
void launch_row_tiles(const RowGramArguments& arguments, Stream stream);

}  // namespace nrc_fast::cuda
