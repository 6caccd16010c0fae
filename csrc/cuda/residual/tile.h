// What the tiles of rows have in common, however they are projected on the basis: the residual from energies and
// coefficients, its explicit form where the expanded one cancels, and what is summed over the rows.
//
// The residual is the expanded form ||x||^2 - ||c||^2 with coefficients c = U x or, where that cancels in one of 64
// rows, the norm of x - U^T c, for which they are read again.
#pragma once

#include "cuda/residual/arguments.h"

namespace nrc_fast::cuda {

constexpr int explicit_rows = 64;
constexpr int row_loads = explicit_rows * step_columns / residual_threads;
constexpr int vector_loads = group_vectors * step_columns / residual_threads;
// One number more than the rows or vectors, so that what a warp writes down a column lies in different banks.
constexpr int padded_rows = explicit_rows + 1;
constexpr int padded_vectors = group_vectors + 1;

// Memory that the threads of a block share.
template <int rows>
struct alignas(16) TileShared {
  double energies[rows];
  double weights[rows];
  double captured[rows];
  double residuals[rows];
  double squares[2][residual_warps][group_vectors];
  double sums[4][residual_warps];
  CompensatedSum partial[2 * group_vectors + 4];
  int cancels[residual_warps];
};

// Columns of 64 rows, and of the vectors, in the type that is computed with.
template <class Value>
struct alignas(16) StepShared {
  Value rows[step_columns * padded_rows];
  Value vectors[step_columns * padded_vectors];
  Value coefficients[group_vectors * padded_rows];
};

// `size` rows, with whose projection a class that is derived from this begins.
template <class Row, class Value, int size>
class ResidualTile {
 public:
  NRC_FAST_DEVICE explicit ResidualTile(const ResidualArguments& arguments)
      : arguments_(arguments), shared_(*static_cast<TileShared<size>*>(static_cast<void*>(shared_memory()))) {}

  // Before the first tile of a block, and after the last.
  NRC_FAST_DEVICE void begin_sums() const {
    if (are_sums_shared() && thread_index() < partial_sums(arguments_.vectors)) {
      shared_.partial[thread_index()] = CompensatedSum{};
    }
    synchronize_block();
  }
  NRC_FAST_DEVICE void end_sums() const {
    synchronize_block();
    if (are_sums_shared() && thread_index() < partial_sums(arguments_.vectors)) {
      block_partial()[thread_index()] = shared_.partial[thread_index()];
    }
  }

 protected:
  static constexpr int lanes_across = group_vectors / 4;
  static constexpr int parts = size / explicit_rows;

  // Where threads have 4 x 4 elements.
  NRC_FAST_DEVICE static int row_of_thread() { return thread_index() / lanes_across * 4; }
  NRC_FAST_DEVICE static int vector_of_thread() { return thread_index() % lanes_across * 4; }

  NRC_FAST_DEVICE char* memory_behind() const { return shared_memory() + sizeof(TileShared<size>); }
  NRC_FAST_DEVICE StepShared<Value>& step() const {
    return *static_cast<StepShared<Value>*>(static_cast<void*>(memory_behind()));
  }
  NRC_FAST_DEVICE Value* block_coefficients() const {
    return static_cast<Value*>(arguments_.coefficients) +
           block_index_again() * round_up(arguments_.vectors, group_vectors) * size;
  }
  NRC_FAST_DEVICE bool are_sums_shared() const { return arguments_.vectors <= group_vectors; }
  NRC_FAST_DEVICE CompensatedSum* block_partial() const {
    return arguments_.partial + block_index_again() * partial_sums(arguments_.vectors);
  }
  NRC_FAST_DEVICE CompensatedSum* sums() const { return are_sums_shared() ? shared_.partial : block_partial(); }

  // 64 rows of one step, shifted: a warp reads one row at a time. All loads come first; what is beyond the rows or
  // columns is read from the last one, and then left out. `filled` has one bit for each load.
  NRC_FAST_DEVICE void read_rows(std::int64_t first_row, std::int64_t first_column, Value (&values)[row_loads],
                                 unsigned& filled) const {
    const MatrixView& rows = arguments_.rows.features;
    const std::int64_t column = first_column + thread_index() % step_columns;
    const bool has_column = column < rows.columns;
    const std::int64_t left = rows.rows - first_row - thread_index() / warp_lanes;
    const int count = static_cast<int>(left < explicit_rows ? left : explicit_rows);
    const std::int64_t stride = rows.row_stride * residual_warps;
    const Row* place = static_cast<const Row*>(rows.data) +
                       (count > 0 ? first_row + thread_index() / warp_lanes : 0) * rows.row_stride +
                       (has_column ? column : 0) * rows.column_stride;
    Row stored[row_loads];
#pragma unroll
    for (int i = 0; i < row_loads; ++i) {
      stored[i] = *place;
      place += (i + 1) * residual_warps < count ? stride : 0;
    }
    const HighAndLow<Value> shift = column_shift<Value>(arguments_.shift, column, rows.columns);
#pragma unroll
    for (int i = 0; i < row_loads; ++i) {
      const Value value = as<Value>(stored[i]);
      const bool is_there = has_column && i * residual_warps < count;
      if (is_there && value != Value(0)) filled |= 1u << i;
      Value shifted = value - shift.high;
      if constexpr (sizeof(Value) == 4) shifted -= shift.low;
      values[i] = is_there ? shifted : Value(0);
    }
  }

  NRC_FAST_DEVICE void read_vectors(std::int64_t first_vector, std::int64_t first_column,
                                    Value (&values)[vector_loads]) const {
    const Value* const place = static_cast<const Value*>(arguments_.basis) +
                               first_vector * round_up(arguments_.rows.features.columns, step_columns) +
                               first_column * group_vectors + thread_index();
#pragma unroll
    for (int i = 0; i < vector_loads; ++i) values[i] = place[i * residual_threads];
  }

  NRC_FAST_DEVICE void write_step(const Value (&rows)[row_loads], const Value (&vectors)[vector_loads]) const {
    const int column = thread_index() % step_columns;
    const int place = thread_index() / warp_lanes;
#pragma unroll
    for (int i = 0; i < row_loads; ++i) step().rows[column * padded_rows + i * residual_warps + place] = rows[i];
#pragma unroll
    for (int i = 0; i < vector_loads; ++i) {
      const int index = i * residual_threads + thread_index();
      step().vectors[index / group_vectors * padded_vectors + index % group_vectors] = vectors[i];
    }
  }

  // Sums over the tile of squares of `width` coefficients, which the warps have left in `squares` before a barrier.
  NRC_FAST_DEVICE void add_vector_squares(std::int64_t first_vector, int width) const {
    const int kind = thread_index() / group_vectors;
    const int place = thread_index() % group_vectors;
    if (kind >= 2 || place >= width || first_vector + place >= arguments_.vectors) return;
    double sum = 0.0;
#pragma unroll
    for (int w = 0; w < residual_warps; ++w) sum += shared_.squares[kind][w][place];
    sums()[kind * arguments_.vectors + first_vector + place].add(sum);
  }

  // What is left of the rows, in `residuals`. `store` is called by all threads, or none, before coefficients are read.
  // Returns which parts of 64 rows are in explicit form, one bit for each.
  template <class Store>
  NRC_FAST_DEVICE unsigned find_residuals(std::int64_t first_row, const Store& store) const {
    synchronize_block();
    const int place = thread_index();
    bool cancels = false;
    if (place < size) {
      const double energy = shared_.energies[place];
      const double rest = energy - shared_.captured[place];
      shared_.residuals[place] = rest;
      cancels = rest < arguments_.least_expanded * energy;
      const std::int64_t row = first_row + place;
      if (row < arguments_.rows.features.rows && !is_finite(energy)) count_nonfinite(row);
    }
    int of_warp = cancels ? 1 : 0;
#pragma unroll
    for (int mask = 1; mask < warp_lanes; mask *= 2) of_warp |= shuffle_xor(of_warp, mask);
    if (place % warp_lanes == 0) shared_.cancels[place / warp_lanes] = of_warp;
    synchronize_block();
    unsigned in_explicit_form = 0;
#pragma unroll
    for (int w = 0; w < size / warp_lanes; ++w) {
      if (shared_.cancels[w] != 0) in_explicit_form |= 1u << w * warp_lanes / explicit_rows;
    }
    if (in_explicit_form == 0) return 0;
    store();
    for (int part = 0; part < parts; ++part) {
      if ((in_explicit_form >> part & 1u) != 0) write_explicit_residuals(first_row, part * explicit_rows);
    }
    synchronize_block();
    return in_explicit_form;
  }

  // Results of the rows, and their sums, two by two: the rounding of a sum grows with its depth.
  NRC_FAST_DEVICE void add_rows(std::int64_t first_row, unsigned in_explicit_form) const {
    const int place = thread_index();
    double values[4] = {0.0, 0.0, 0.0, 0.0};
    if (place < size) {
      const double energy = shared_.energies[place];
      const double weight = shared_.weights[place];
      const double rest = shared_.residuals[place];
      const bool is_expanded = (in_explicit_form >> place / explicit_rows & 1u) == 0;
      values[0] = rest;
      values[1] = weight * rest;
      values[2] = is_expanded ? energy : 0.0;
      values[3] = is_expanded ? weight * energy : 0.0;
      const std::int64_t row = first_row + place;
      if (row < arguments_.rows.features.rows) {
        if (arguments_.row_residuals != nullptr) arguments_.row_residuals[row] = rest;
        if (arguments_.row_energies != nullptr) arguments_.row_energies[row] = energy;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int mask = 1; mask < warp_lanes; mask *= 2) values[i] += shuffle_xor(values[i], mask);
      if (place % warp_lanes == 0) shared_.sums[i][place / warp_lanes] = values[i];
    }
    synchronize_block();
    if (place < 4) {
      double sum = 0.0;
#pragma unroll
      for (int w = 0; w < size / warp_lanes; ++w) sum += shared_.sums[place][w];
      sums()[2 * arguments_.vectors + place].add(sum);
    }
  }

  const ResidualArguments& arguments_;
  TileShared<size>& shared_;

 private:
  // Of a row whose energy is not finite either: not where only its squares leave the range.
  NRC_FAST_DEVICE void count_nonfinite(std::int64_t row) const {
    for (std::int64_t column = 0; column < arguments_.rows.features.columns; ++column) {
      if (is_finite(as_double(stored_value<Row>(arguments_.rows.features, row, column)))) continue;
      count_more(&arguments_.counts->nonfinite, 1);
      keep_smallest(&arguments_.counts->first_nonfinite, row);
      return;
    }
  }

  // ||x - U^T c||^2 of 64 rows of the tile: here the threads' 4 x 4 elements are rows and columns.
  NRC_FAST_DEVICE void write_explicit_residuals(std::int64_t first_row, int first_of_part) const {
    double residuals[4] = {0.0, 0.0, 0.0, 0.0};
    for (std::int64_t column = 0; column < arguments_.rows.features.columns; column += step_columns) {
      Value sums[4][4];
#pragma unroll
      for (int i = 0; i < 16; ++i) sums[i / 4][i % 4] = 0;
      for (std::int64_t vector = 0; vector < arguments_.vectors; vector += group_vectors) {
        load_explicit(first_row, first_of_part, vector, column);
#pragma unroll 4
        for (int v = 0; v < group_vectors; ++v) {
#pragma unroll
          for (int i = 0; i < 16; ++i) {
            sums[i / 4][i % 4] += step().coefficients[v * padded_rows + row_of_thread() + i / 4] *
                                  step().vectors[(vector_of_thread() + i % 4) * padded_vectors + v];
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const Value rest =
            step().rows[(vector_of_thread() + i % 4) * padded_rows + row_of_thread() + i / 4] - sums[i / 4][i % 4];
        residuals[i / 4] += static_cast<double>(rest) * static_cast<double>(rest);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int mask = 1; mask < lanes_across; mask *= 2) residuals[i] += shuffle_xor(residuals[i], mask);
      if (thread_index() % lanes_across == 0) shared_.residuals[first_of_part + row_of_thread() + i] = residuals[i];
    }
  }

  NRC_FAST_DEVICE void load_explicit(std::int64_t first_row, int first_of_part, std::int64_t first_vector,
                                     std::int64_t column) const {
    Value rows[row_loads];
    Value vectors[vector_loads];
    unsigned unused = 0;
    synchronize_block();  // all are done with the group before
    read_rows(first_row + first_of_part, column, rows, unused);
    read_vectors(first_vector, column, vectors);
    write_step(rows, vectors);
    const Value* const coefficients = block_coefficients() + first_vector * size + first_of_part;
    for (int index = thread_index(); index < group_vectors * explicit_rows; index += residual_threads) {
      const int vector = index / explicit_rows;
      const int row = index % explicit_rows;
      const bool is_there = first_vector + vector < arguments_.vectors;
      step().coefficients[vector * padded_rows + row] = is_there ? coefficients[vector * size + row] : Value(0);
    }
    synchronize_block();
  }
};

}  // namespace nrc_fast::cuda
