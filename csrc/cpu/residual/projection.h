// Groups of rows, loaded less a shift and held against vectors: what the residual pass does with rows before it adds
// anything up.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/machine/kernel_table.h"
#include "cpu/residual/row_groups.h"

namespace nrc_fast {

// The vectors of all bases of one shift, so that rows are loaded and shifted once for them.
class Frame {
 public:
  Frame(const ResidualKernels& kernels, const double* shift, std::int64_t columns)
      : kernels_(&kernels),
        shift_values_(shift),
        columns_(columns),
        padded_(round_up(columns, 2 * kernels.lanes)),
        stride_(apart(padded_, kernels.element_size)),
        shift_(shift, columns, padded_, kernels.element_size) {}

  bool has_shift(const double* shift) const {
    if (shift == shift_values_) return true;
    if (shift == nullptr || shift_values_ == nullptr) return false;
    return std::memcmp(shift, shift_values_, static_cast<std::size_t>(columns_) * sizeof(double)) == 0;
  }

  // The number that the first of these vectors gets.
  std::int64_t append(const double* vectors, std::int64_t count) {
    const std::int64_t first = vector_count();
    for (std::int64_t k = 0; k < count; ++k) sources_.push_back(vectors + k * columns_);
    return first;
  }

  // When all are known: converted to the element type and padded.
  void store() {
    vectors_ = Buffer(vector_count() * stride_ * kernels_->element_size);
    for (std::int64_t k = 0; k < vector_count(); ++k) {
      for (std::int64_t c = 0; c < columns_; ++c) {
        const double value = sources_[static_cast<std::size_t>(k)][c];
        if (kernels_->element_size == 8) {
          vectors_.as<double>()[k * stride_ + c] = value;
        } else {
          vectors_.as<float>()[k * stride_ + c] = static_cast<float>(value);
        }
      }
    }
  }

  std::int64_t vector_count() const { return static_cast<std::int64_t>(sources_.size()); }
  std::int64_t tiles() const { return (vector_count() + most_units) / most_units; }
  std::int64_t padded() const { return padded_; }
  std::int64_t stride() const { return stride_; }
  bool is_shifted() const { return shift_values_ != nullptr; }
  const Shift& shift() const { return shift_; }
  const char* vector(std::int64_t k) const { return vectors_.as<char>() + k * stride_ * kernels_->element_size; }

 private:
  // An odd number of cache lines, so that the rows and vectors of a tile do not lie in one set of the cache.
  static std::int64_t apart(std::int64_t columns, std::int64_t element_size) {
    constexpr std::int64_t line = 64;
    return ((columns * element_size + line - 1) / line | 1) * line / element_size;
  }

  const ResidualKernels* kernels_;
  const double* shift_values_;
  std::int64_t columns_;
  std::int64_t padded_;
  std::int64_t stride_;
  std::vector<const double*> sources_;
  Buffer vectors_;
  Shift shift_;
};

// Scratch of one thread, of as many rows as stay in its first-level cache, and what it has found in them.
struct ProjectionSpace {
  static constexpr std::int64_t gathered_rows = 256;
  static constexpr std::int64_t cached_bytes = 16 << 10;
  static constexpr std::int64_t most_rows = 64;

  ProjectionSpace(const ResidualKernels& kernels, const Matrix& features, const Frame& frame, std::int64_t vectors)
      : row_capacity(
            std::clamp(cached_bytes / (frame.padded() * kernels.element_size) / 4 * 4, std::int64_t{4}, most_rows)),
        padded_rows(round_up(row_capacity, sum_lanes)),
        reader(features, gathered_rows),
        loaded(row_capacity * frame.stride() * kernels.element_size),
        coefficients(padded_rows * vectors * kernels.element_size),
        energies(padded_rows * 8),
        exponents(padded_rows * 4),
        residuals(padded_rows * 8),
        raw_weights(padded_rows * 8),
        unit_weights(padded_rows * 8) {}

  // The squared norms that count, and what raw sums and those of x / ||x|| weigh the squares of each row with. Behind
  // the last row all are zero. Rows that were scaled have no part in raw sums: their squares may not be numbers.
  void weigh(std::int64_t count) {
    has_scaled = false;
    for (std::int64_t r = 0; r < padded_rows; ++r) {
      double& energy = energies.as<double>()[r];
      if (r >= count) energy = 0.0;
      const bool is_scaled = r < count && exponents.as<int>()[r] != 0;
      raw_weights.as<double>()[r] = r < count && !is_scaled ? 1.0 : 0.0;
      unit_weights.as<double>()[r] = energy > 0.0 ? 1.0 / energy : 0.0;
      has_scaled = has_scaled || is_scaled;
    }
  }

  std::int64_t row_capacity;
  std::int64_t padded_rows;
  RowReader reader;
  Buffer loaded;
  Buffer coefficients;
  Buffer energies;
  Buffer exponents;
  Buffer residuals;
  Buffer raw_weights;
  Buffer unit_weights;
  bool has_scaled = false;
  ReadCounts counts;
};

// Memory that is fetched while a frame's tiles are computed: which share of the rows ahead comes with the first one.
struct Shares {
  std::int64_t first;
  std::int64_t bytes;
};

// Loads the rows of a group and computes their coefficients.
inline void project_group(const ResidualKernels& kernels, const Matrix& features, const Frame& frame,
                          const RowGroup& group, const ProjectionSpace& space, const Shares& shares) {
  kernels.project[static_cast<int>(features.dtype)]({group.rows,
                                                     size_of(features.dtype),
                                                     group.row_stride,
                                                     group.count,
                                                     features.columns,
                                                     frame.padded(),
                                                     frame.stride(),
                                                     space.padded_rows,
                                                     frame.is_shifted(),
                                                     frame.shift().high.get(),
                                                     frame.shift().low.get(),
                                                     frame.vector(0),
                                                     frame.vector_count(),
                                                     space.loaded.get(),
                                                     space.coefficients.get(),
                                                     space.energies.as<double>(),
                                                     space.exponents.as<int>(),
                                                     space.row_capacity,
                                                     shares.first,
                                                     shares.bytes});
}

// Infinite and NaN values make the energy so; rows that are only large are loaded scaled, and theirs is finite.
inline void note_nonfinite(const RowGroup& group, ProjectionSpace& space) {
  for (std::int64_t r = 0; r < group.count; ++r) {
    if (!std::isfinite(space.energies.as<double>()[r])) merge(space.counts, nonfinite_row(group.first + r));
  }
}

}  // namespace nrc_fast
