// The projection of tiles of 64 rows without tensor cores: tiles of 32 columns in shared memory, 4 rows x 4 vectors for
// each thread.
#pragma once

#include "cuda/residual/tile.h"

namespace nrc_fast::cuda {

static_assert(simt_rows == explicit_rows);
// Steps whose products are added in float32 before they go to float64.
constexpr int simt_fold_steps = 8;

template <class Row, class Value>
class SimtTile : public ResidualTile<Row, Value, simt_rows> {
 public:
  using ResidualTile<Row, Value, simt_rows>::ResidualTile;

  NRC_FAST_DEVICE void run(std::int64_t first_row) {
    unsigned filled = 0;
    // A basis of no vectors still has energies.
    for (std::int64_t vector = 0; vector == 0 || vector < this->arguments_.vectors; vector += group_vectors) {
      project(first_row, vector, filled);
      add_squares(vector);
    }
    count_zero(first_row, filled);
    this->add_rows(first_row, this->find_residuals(first_row, [] {}));
  }

 private:
  // Coefficients of one group of vectors into memory and, times themselves, into `squares_`; energies with the first.
  NRC_FAST_DEVICE void project(std::int64_t first_row, std::int64_t first_vector, unsigned& filled) {
    const std::int64_t columns = this->arguments_.rows.features.columns;
    Value rows[row_loads];
    Value vectors[vector_loads];
    Value sums[4][4];  // of a few steps, in float32
    double energy = 0.0;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      sums[i / 4][i % 4] = 0;
      squares_[i / 4][i % 4] = 0.0;
    }
    this->read_rows(first_row, 0, rows, filled);
    this->read_vectors(first_vector, 0, vectors);
    int done = 0;
    for (std::int64_t column = 0; column < columns; column += step_columns) {
      synchronize_block();  // all are done with the step before
      this->write_step(rows, vectors);
      synchronize_block();
      if (column + step_columns < columns) {
        this->read_rows(first_row, column + step_columns, rows, filled);
        this->read_vectors(first_vector, column + step_columns, vectors);
      }
      if (first_vector == 0) energy += static_cast<double>(half_energy());
#pragma unroll 4
      for (int c = 0; c < step_columns; ++c) {
        const Value* const x = this->step().rows + c * padded_rows + this->row_of_thread();
        const Value* const u = this->step().vectors + c * padded_vectors + this->vector_of_thread();
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
      if (++done % simt_fold_steps == 0 || column + step_columns >= columns) {
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          squares_[i / 4][i % 4] += static_cast<double>(sums[i / 4][i % 4]);
          sums[i / 4][i % 4] = 0;
        }
      }
    }
    if (first_vector == 0) finish_energies(energy);
    Value* const coefficients = this->block_coefficients() + first_vector * simt_rows;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const double coefficient = squares_[i / 4][i % 4];
      squares_[i / 4][i % 4] = coefficient * coefficient;
      if (first_vector + this->vector_of_thread() + i % 4 < this->arguments_.vectors) {
        coefficients[(this->vector_of_thread() + i % 4) * simt_rows + this->row_of_thread() + i / 4] =
            static_cast<Value>(coefficient);
      }
    }
  }

  // Two threads share a row.
  NRC_FAST_DEVICE Value half_energy() const {
    const int row = thread_index() % simt_rows;
    const int first = thread_index() / simt_rows * (step_columns / 2);
    Value sum = 0;
#pragma unroll
    for (int c = 0; c < step_columns / 2; ++c) {
      const Value value = this->step().rows[(first + c) * padded_rows + row];
      sum += value * value;
    }
    return sum;
  }

  NRC_FAST_DEVICE void finish_energies(double energy) const {
    const int row = thread_index() % simt_rows;
    const bool is_second = thread_index() >= simt_rows;
    if (is_second) this->shared_.residuals[row] = energy;
    synchronize_block();
    if (!is_second) {
      const double whole = energy + this->shared_.residuals[row];
      this->shared_.energies[row] = whole;
      this->shared_.weights[row] = whole > 0.0 ? 1.0 / whole : 0.0;
      this->shared_.captured[row] = 0.0;
    }
    synchronize_block();
  }

  // Squares of coefficients, over the vectors for each row and over the rows for each vector.
  NRC_FAST_DEVICE void add_squares(std::int64_t first_vector) const {
    constexpr int lanes_across = ResidualTile<Row, Value, simt_rows>::lanes_across;
    const int row = this->row_of_thread();
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
        unit[i] += this->shared_.weights[row + j] * squares_[j][i];
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
      if (lane % lanes_across == 0) this->shared_.captured[row + i] += by_row[i];
      if (lane < lanes_across) {
        this->shared_.squares[0][warp][this->vector_of_thread() + i] = raw[i];
        this->shared_.squares[1][warp][this->vector_of_thread() + i] = unit[i];
      }
    }
    synchronize_block();
    this->add_vector_squares(first_vector, group_vectors);
  }

  // A warp reads whole rows.
  NRC_FAST_DEVICE void count_zero(std::int64_t first_row, unsigned filled) const {
#pragma unroll
    for (int mask = 1; mask < warp_lanes; mask *= 2) filled |= shuffle_xor(filled, mask);
    if (thread_index() % warp_lanes != 0) return;
    int zero = 0;
    for (int i = 0; i < row_loads; ++i) {
      const std::int64_t row = first_row + i * residual_warps + thread_index() / warp_lanes;
      if (row < this->arguments_.rows.features.rows && (filled >> i & 1u) == 0) ++zero;
    }
    if (zero != 0) count_more(&this->arguments_.counts->zero, zero);
  }

  double squares_[4][4];
};

}  // namespace nrc_fast::cuda
