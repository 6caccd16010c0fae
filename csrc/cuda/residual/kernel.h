// The residual of rows on a basis: a block of threads takes tiles of 64 rows, which device memory gives once; what
// it reads again of a tile, for the next group of vectors or the explicit form, the cache has.
//
// Coefficients c = U x come from tiles of 32 columns in shared memory, 4 rows x 4 vectors for each thread. The
// residual is the expanded form ||x||^2 - ||c||^2 or, where that cancels in a row of the tile, the norm of x - U^T c.
#pragma once

#include "common/arithmetic.h"
#include "cuda/machine/fragments.h"
#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

constexpr int tile_rows = 64;
constexpr int group_vectors = 32;
constexpr int step_columns = 32;
constexpr int residual_threads = 128;
constexpr int row_loads = tile_rows * step_columns / residual_threads;
constexpr int vector_loads = group_vectors * step_columns / residual_threads;
constexpr int residual_warps = residual_threads / warp_lanes;
// One number more than the rows or vectors, so that what a warp writes down a column lies in different banks.
constexpr int padded_rows = tile_rows + 1;
constexpr int padded_vectors = group_vectors + 1;
// Columns whose products are added in the type that is computed with, before they go to float64.
constexpr int fold_steps = 8;

struct ResidualArguments {
  MatrixView features;
  const double* basis;
  std::int64_t vectors;
  const double* shift;
  double* row_residuals;
  double* row_energies;
  RowCounts* counts;
  CompensatedSum* partial;  // for each block: squares of coefficients, raw and unit, residuals, and expanded energies
  void* coefficients;       // for each block: vectors, rounded up to groups, x tile_rows
  double least_expanded;
};

// Raw and unit sums: of squares for each vector, of residuals, and of energies of rows in expanded form.
NRC_FAST_BOTH std::int64_t partial_sums(std::int64_t vectors) { return 2 * vectors + 4; }

// Memory that the threads of a block share.
template <class Value>
struct ResidualShared {
  double energies[tile_rows];
  double weights[tile_rows];
  double captured[tile_rows];
  double residuals[tile_rows];
  double halves[2][tile_rows];
  double squares[2][residual_warps][group_vectors];
  Value rows[step_columns * padded_rows];
  Value vectors[step_columns * padded_vectors];
  Value coefficients[group_vectors * padded_rows];
};

// What the lanes of one warp have seen in the rows that they load: one bit for each.
struct RowFlags {
  unsigned filled = 0;
  unsigned bad = 0;
};

template <class Row, class Value>
class ResidualTile {
 public:
  NRC_FAST_DEVICE ResidualTile(const ResidualArguments& arguments, ResidualShared<Value>& shared)
      : arguments_(arguments), shared_(shared) {}

  NRC_FAST_DEVICE void run(std::int64_t first_row) {
    first_row_ = first_row;
    RowFlags flags;
    // A basis of no vectors still has energies.
    for (std::int64_t vector = 0; vector == 0 || vector < arguments_.vectors; vector += group_vectors) {
      project(vector, flags);
      add_squares(vector);
    }
    count(flags);
    finish();
  }

 private:
  static constexpr int lanes_across = group_vectors / 4;

  NRC_FAST_DEVICE static int row_of_thread() { return thread_index() / lanes_across * 4; }
  NRC_FAST_DEVICE static int vector_of_thread() { return thread_index() % lanes_across * 4; }
  NRC_FAST_DEVICE Value* block_coefficients() const {
    return static_cast<Value*>(arguments_.coefficients) +
           block_index_again() * round_up(arguments_.vectors, group_vectors) * tile_rows;
  }
  NRC_FAST_DEVICE CompensatedSum* block_partial() const {
    return arguments_.partial + block_index_again() * partial_sums(arguments_.vectors);
  }

  // Rows of one step, shifted: a warp reads one row at a time, and writes it down a column of shared memory.
  NRC_FAST_DEVICE void read_rows(std::int64_t first_column, Value (&values)[row_loads], RowFlags& flags) const {
    const std::int64_t column = first_column + thread_index() % step_columns;
    const HighAndLow<Value> shift = column_shift<Value>(arguments_.shift, column, arguments_.features.columns);
#pragma unroll
    for (int i = 0; i < row_loads; ++i) {
      const std::int64_t row = first_row_ + i * residual_warps + thread_index() / warp_lanes;
      values[i] = 0;
      if (row >= arguments_.features.rows || column >= arguments_.features.columns) continue;
      const Value stored = as<Value>(stored_value<Row>(arguments_.features, row, column));
      if (stored != Value(0)) flags.filled |= 1u << i;
      if (!(stored - stored == Value(0))) flags.bad |= 1u << i;
      values[i] = stored - shift.high;
      if constexpr (sizeof(Value) == 4) values[i] -= shift.low;
    }
  }

  NRC_FAST_DEVICE void read_vectors(std::int64_t first_vector, std::int64_t first_column,
                                    Value (&values)[vector_loads]) const {
    const std::int64_t column = first_column + thread_index() % step_columns;
#pragma unroll
    for (int i = 0; i < vector_loads; ++i) {
      const std::int64_t vector = first_vector + i * residual_warps + thread_index() / warp_lanes;
      const bool is_there = vector < arguments_.vectors && column < arguments_.features.columns;
      values[i] =
          is_there ? static_cast<Value>(arguments_.basis[vector * arguments_.features.columns + column]) : Value(0);
    }
  }

  NRC_FAST_DEVICE void write_step(const Value (&rows)[row_loads], const Value (&vectors)[vector_loads]) const {
    const int column = thread_index() % step_columns;
    const int place = thread_index() / warp_lanes;
#pragma unroll
    for (int i = 0; i < row_loads; ++i) shared_.rows[column * padded_rows + i * residual_warps + place] = rows[i];
#pragma unroll
    for (int i = 0; i < vector_loads; ++i) {
      shared_.vectors[column * padded_vectors + i * residual_warps + place] = vectors[i];
    }
  }

  // Coefficients of one group of vectors into memory and, times themselves, into `squares_`; energies with the first.
  NRC_FAST_DEVICE void project(std::int64_t first_vector, RowFlags& flags) {
    Value rows[row_loads];
    Value vectors[vector_loads];
    Value sums[4][4];  // of a few steps, in float32
    double energy = 0.0;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      sums[i / 4][i % 4] = 0;
      squares_[i / 4][i % 4] = 0.0;
    }
    read_rows(0, rows, flags);
    read_vectors(first_vector, 0, vectors);
    int step = 0;
    for (std::int64_t column = 0; column < arguments_.features.columns; column += step_columns) {
      synchronize_block();  // all are done with the step before
      write_step(rows, vectors);
      synchronize_block();
      if (column + step_columns < arguments_.features.columns) {
        read_rows(column + step_columns, rows, flags);
        read_vectors(first_vector, column + step_columns, vectors);
      }
      if (first_vector == 0) energy += static_cast<double>(half_energy());
#pragma unroll 4
      for (int c = 0; c < step_columns; ++c) {
        const Value* const x = shared_.rows + c * padded_rows + row_of_thread();
        const Value* const u = shared_.vectors + c * padded_vectors + vector_of_thread();
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          if constexpr (sizeof(Value) == 8) {
            squares_[i / 4][i % 4] += x[i / 4] * u[i % 4];
          } else {
            sums[i / 4][i % 4] += x[i / 4] * u[i % 4];
          }
        }
      }
      if constexpr (sizeof(Value) == 8) continue;
      if (++step % fold_steps == 0 || column + step_columns >= arguments_.features.columns) {
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          squares_[i / 4][i % 4] += static_cast<double>(sums[i / 4][i % 4]);
          sums[i / 4][i % 4] = 0;
        }
      }
    }
    if (first_vector == 0) finish_energies(energy);
    Value* const coefficients = block_coefficients() + first_vector * tile_rows;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const double coefficient = squares_[i / 4][i % 4];
      squares_[i / 4][i % 4] = coefficient * coefficient;
      if (first_vector + vector_of_thread() + i % 4 < arguments_.vectors) {
        coefficients[(vector_of_thread() + i % 4) * tile_rows + row_of_thread() + i / 4] =
            static_cast<Value>(coefficient);
      }
    }
  }

  // Two threads share a row.
  NRC_FAST_DEVICE Value half_energy() const {
    const int row = thread_index() % tile_rows;
    const int first = thread_index() / tile_rows * (step_columns / 2);
    Value sum = 0;
#pragma unroll
    for (int c = 0; c < step_columns / 2; ++c) {
      const Value value = shared_.rows[(first + c) * padded_rows + row];
      sum += value * value;
    }
    return sum;
  }

  NRC_FAST_DEVICE void finish_energies(double energy) const {
    const int row = thread_index() % tile_rows;
    shared_.halves[thread_index() / tile_rows][row] = energy;
    synchronize_block();
    if (thread_index() < tile_rows) {
      const double whole = shared_.halves[0][row] + shared_.halves[1][row];
      shared_.energies[row] = whole;
      shared_.weights[row] = whole > 0.0 ? 1.0 / whole : 0.0;
      shared_.captured[row] = 0.0;
    }
    synchronize_block();
  }

  // Squares of coefficients, over the vectors for each row and over the rows for each vector.
  NRC_FAST_DEVICE void add_squares(std::int64_t first_vector) const {
    double by_row[4];
    double raw[4];
    double unit[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      by_row[i] = raw[i] = unit[i] = 0.0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        by_row[i] += squares_[i][j];
        raw[i] += squares_[j][i];
        unit[i] += shared_.weights[row_of_thread() + j] * squares_[j][i];
      }
#pragma unroll
      for (int mask = 1; mask < lanes_across; mask *= 2) by_row[i] += shuffle_xor(by_row[i], mask);
#pragma unroll
      for (int mask = lanes_across; mask < warp_lanes; mask *= 2) {
        raw[i] += shuffle_xor(raw[i], mask);
        unit[i] += shuffle_xor(unit[i], mask);
      }
    }
    const int lane = thread_index() % warp_lanes;
    const int warp = thread_index() / warp_lanes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (lane % lanes_across == 0) shared_.captured[row_of_thread() + i] += by_row[i];
      if (lane < lanes_across) {
        shared_.squares[0][warp][vector_of_thread() + i] = raw[i];
        shared_.squares[1][warp][vector_of_thread() + i] = unit[i];
      }
    }
    synchronize_block();
    const std::int64_t vector = first_vector + thread_index() % group_vectors;
    const int kind = thread_index() / group_vectors;
    if (kind < 2 && vector < arguments_.vectors) {
      double sum = 0.0;
#pragma unroll
      for (int w = 0; w < residual_warps; ++w) sum += shared_.squares[kind][w][thread_index() % group_vectors];
      block_partial()[kind * arguments_.vectors + vector].add(sum);
    }
    synchronize_block();
  }

  NRC_FAST_DEVICE void count(RowFlags flags) const {
#pragma unroll
    for (int mask = 1; mask < warp_lanes; mask *= 2) {
      flags.filled |= shuffle_xor(flags.filled, mask);
      flags.bad |= shuffle_xor(flags.bad, mask);
    }
    if (thread_index() % warp_lanes != 0) return;
    for (int i = 0; i < row_loads; ++i) {
      const std::int64_t row = first_row_ + i * residual_warps + thread_index() / warp_lanes;
      if (row >= arguments_.features.rows) continue;
      if ((flags.filled >> i & 1u) == 0) count_more(&arguments_.counts->zero, 1);
      if ((flags.bad >> i & 1u) == 0) continue;
      count_more(&arguments_.counts->nonfinite, 1);
      keep_smallest(&arguments_.counts->first_nonfinite, row);
    }
  }

  NRC_FAST_DEVICE bool cancels() const {
    bool found = false;
    for (int row = 0; row < tile_rows; ++row) {
      const double energy = shared_.energies[row];
      found = found || energy - shared_.captured[row] < arguments_.least_expanded * energy;
    }
    return found;
  }

  NRC_FAST_DEVICE void finish() const {
    if (cancels()) {
      explicit_residuals();
    } else {
      if (thread_index() < tile_rows) {
        shared_.residuals[thread_index()] = shared_.energies[thread_index()] - shared_.captured[thread_index()];
      }
      add_weighted(shared_.energies, 2);
    }
    synchronize_block();
    const std::int64_t row = first_row_ + thread_index();
    if (thread_index() < tile_rows && row < arguments_.features.rows) {
      if (arguments_.row_residuals != nullptr) arguments_.row_residuals[row] = shared_.residuals[thread_index()];
      if (arguments_.row_energies != nullptr) arguments_.row_energies[row] = shared_.energies[thread_index()];
    }
    add_weighted(shared_.residuals, 0);
  }

  // Squares of rows, two by two: the rounding of a sum grows with its depth.
  NRC_FAST_DEVICE void add_weighted(const double* squares, std::int64_t behind) const {
    const int place = thread_index();
    if (place < tile_rows) {
      double raw = squares[place];
      double unit = shared_.weights[place] * raw;
#pragma unroll
      for (int mask = 1; mask < warp_lanes; mask *= 2) {
        raw += shuffle_xor(raw, mask);
        unit += shuffle_xor(unit, mask);
      }
      if (place % warp_lanes == 0) {
        shared_.halves[0][place / warp_lanes] = raw;
        shared_.halves[1][place / warp_lanes] = unit;
      }
    }
    synchronize_block();
    if (place < 2) {
      double sum = 0.0;
#pragma unroll
      for (int w = 0; w < tile_rows / warp_lanes; ++w) sum += shared_.halves[place][w];
      block_partial()[2 * arguments_.vectors + behind + place].add(sum);
    }
    synchronize_block();
  }

  // ||x - U^T c||^2 of every row of the tile: here the threads' 4 x 4 elements are rows and columns.
  NRC_FAST_DEVICE void explicit_residuals() const {
    double residuals[4] = {0.0, 0.0, 0.0, 0.0};
    for (std::int64_t column = 0; column < arguments_.features.columns; column += step_columns) {
      Value sums[4][4];
#pragma unroll
      for (int i = 0; i < 16; ++i) sums[i / 4][i % 4] = 0;
      for (std::int64_t vector = 0; vector < arguments_.vectors; vector += group_vectors) {
        load_explicit(vector, column);
#pragma unroll 4
        for (int v = 0; v < group_vectors; ++v) {
#pragma unroll
          for (int i = 0; i < 16; ++i) {
            sums[i / 4][i % 4] += shared_.coefficients[v * padded_rows + row_of_thread() + i / 4] *
                                  shared_.vectors[(vector_of_thread() + i % 4) * padded_vectors + v];
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const Value rest =
            shared_.rows[(vector_of_thread() + i % 4) * padded_rows + row_of_thread() + i / 4] - sums[i / 4][i % 4];
        residuals[i / 4] += static_cast<double>(rest) * static_cast<double>(rest);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int mask = 1; mask < lanes_across; mask *= 2) residuals[i] += shuffle_xor(residuals[i], mask);
      if (thread_index() % lanes_across == 0) shared_.residuals[row_of_thread() + i] = residuals[i];
    }
  }

  NRC_FAST_DEVICE void load_explicit(std::int64_t first_vector, std::int64_t column) const {
    Value rows[row_loads];
    Value vectors[vector_loads];
    RowFlags unused;
    synchronize_block();  // all are done with the group before
    read_rows(column, rows, unused);
    read_vectors(first_vector, column, vectors);
    write_step(rows, vectors);
    const Value* const coefficients = block_coefficients() + first_vector * tile_rows;
    for (int index = thread_index(); index < group_vectors * tile_rows; index += residual_threads) {
      const int vector = index / tile_rows;
      const bool is_there = first_vector + vector < arguments_.vectors;
      shared_.coefficients[vector * padded_rows + index % tile_rows] = is_there ? coefficients[index] : Value(0);
    }
    synchronize_block();
  }

  const ResidualArguments& arguments_;
  ResidualShared<Value>& shared_;
  std::int64_t first_row_ = 0;
  double squares_[4][4];
};

}  // namespace nrc_fast::cuda
