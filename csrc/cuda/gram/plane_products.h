// Sums of products of the columns of rows with targets, from the numbers that planes are written of: those of a turn
// meet in shared memory, where each thread then has a few columns of all of its rows, and where the sums stay.
#pragma once

#include "cuda/gram/column_products.h"
#include "cuda/gram/plane_block.h"

namespace nrc_fast::cuda {

template <RowUse use, bool has_products>
class PlaneProducts {
 public:
  NRC_FAST_DEVICE explicit PlaneProducts(const PlaneArguments& arguments)
      : block_(arguments.block), products_(arguments.task.products), rows_(arguments.task.rows.rows) {
    if constexpr (!has_products) return;
    targets_ = shared_numbers() + block_.numbers();
    sums_ = targets_ + turn_rows() * block_.padded_targets();
    for_columns([&](int column) {
      for (int t = 0; t < block_.targets; ++t) sums_[t * block_.columns() + column] = 0.0;
    });
  }

  // Those of the rows of a turn, shifted, zeros where there is no row. What is not finite is of a row that is left out,
  // or nothing is added at all.
  NRC_FAST_DEVICE void convert_targets(std::int64_t first_row) const {
    const int padded = block_.padded_targets();
    const int count = turn_rows() * padded;
    const MatrixView& targets = products_.targets;
    for (int i = thread_index(); i < count; i += block_.threads) {
      const int target = i % padded;
      double value = 0.0;
      const std::int64_t row = first_row + i / padded;
      if (target < block_.targets && row < rows_.rows) {
        const std::int64_t place = row * targets.row_stride + target * targets.column_stride;
        note_load(products_.size);
        value = target_value(targets.dtype, static_cast<const char*>(targets.data) + place * products_.size);
        value = is_finite(value) ? value - (products_.shift == nullptr ? 0.0 : products_.shift[target]) : 0.0;
      }
      targets_[i] = value;
    }
  }

  // The numbers of one chunk of a row, zeros where there is none.
  NRC_FAST_DEVICE void give(int row, int place, const double (&values)[chunk_columns]) const {
    double* const chunk = shared_numbers() + (row * block_.chunks + place) * chunk_columns;
#pragma unroll
    for (int v = 0; v < chunk_columns; v += 2) {
      SixteenBytes<double> pair;
      pair.values[0] = values[v];
      pair.values[1] = values[v + 1];
      *reinterpret_cast<SixteenBytes<double>*>(chunk + place_of(place, v)) = pair;
    }
  }

  // Products of one turn are added up before they are added to the sums, which keeps chains of roundings short.
  NRC_FAST_DEVICE void add() const {
    const int padded = block_.padded_targets();
    for (int first = 0; first < block_.targets; first += target_group) {
      for_columns([&](int column) {
        const double* value = shared_numbers() + column / chunk_columns * chunk_columns +
                              place_of(column / chunk_columns, column % chunk_columns);
        const double* factors = targets_ + first;
        double found[target_group];
#pragma unroll
        for (int t = 0; t < target_group; ++t) found[t] = 0.0;
#pragma unroll plane_thread_rows
        for (int r = 0; r < turn_rows(); ++r) {
#pragma unroll
          for (int t = 0; t < target_group; t += 2) {
            const auto pair = *reinterpret_cast<const SixteenBytes<double>*>(factors + t);
            found[t] += pair.values[0] * *value;
            found[t + 1] += pair.values[1] * *value;
          }
          value += block_.columns();
          factors += padded;
        }
        double* const sums = sums_ + first * block_.columns() + column;
#pragma unroll
        for (int t = 0; t < target_group; ++t) {
          if (first + t < block_.targets) sums[t * block_.columns()] += found[t];
        }
      });
    }
  }

  // The sums of the block over columns, and behind them those of products.
  NRC_FAST_DEVICE double* sums_of_block() const {
    return products_.partial + block_index() * (1 + block_.targets) * rows_.columns;
  }
  NRC_FAST_DEVICE void write() const {
    double* const target = sums_of_block() + first_column();
    for_columns([&](int column) {
      for (int t = 0; t < block_.targets; ++t) {
        target[(1 + t) * rows_.columns + column] += sums_[t * block_.columns() + column];
      }
    });
  }

 private:
  // Where a number of a chunk lies, among those of the chunk: pairs of neighbours in an order by which all lanes write
  // to different banks.
  NRC_FAST_DEVICE static int place_of(int chunk, int number) {
    return ((number / 2) ^ (chunk / 2 % (chunk_columns / 2))) * 2 + number % 2;
  }
  NRC_FAST_DEVICE std::int64_t first_column() const { return block_index_y() * block_.columns(); }
  // Blocks that need not have whole rows have as many of them as may be.
  NRC_FAST_DEVICE int turn_rows() const {
    return use == RowUse::sifted ? block_.turn_rows() : most_plane_rows * plane_thread_rows;
  }
  // Calls `use_column(column)` for the columns of the block that are this thread's.
  template <class Use>
  NRC_FAST_DEVICE void for_columns(const Use& use_column) const {
    const std::int64_t left = rows_.columns - first_column();
    const int count = left < block_.columns() ? static_cast<int>(left) : block_.columns();
    for (int column = thread_index(); column < count; column += block_.threads) use_column(column);
  }

  const PlaneBlock& block_;
  const RowTargets& products_;
  const MatrixView& rows_;
  double* targets_ = nullptr;
  double* sums_ = nullptr;
};

}  // namespace nrc_fast::cuda
