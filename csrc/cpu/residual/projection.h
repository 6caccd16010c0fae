// Rows in groups that fit a thread's scratch, loaded and held against a basis: what the passes of residual.cpp and
// products.cpp do with rows before they add anything up.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/rows.h"

namespace nrc_fast {

// Sums are taken over this many rows and then added up, so that rounding to one side does not grow with all rows.
constexpr std::int64_t segment_rows = 4096;

// Vectors converted to the element type, rows of the scratch, and the shift.
struct Basis {
  Basis(const ResidualKernels& kernels, const double* vectors, std::int64_t count, std::int64_t columns,
        const double* shift_values)
      : vector_count(count),
        padded(round_up(columns, 2 * kernels.lanes)),
        values(count * padded * kernels.element_size),
        is_shifted(shift_values != nullptr),
        shift(shift_values, columns, padded, kernels.element_size) {
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const double value = vectors[k * columns + c];
        if (kernels.element_size == 8) {
          values.as<double>()[k * padded + c] = value;
        } else {
          values.as<float>()[k * padded + c] = static_cast<float>(value);
        }
      }
    }
  }

  std::int64_t vector_count;
  std::int64_t padded;
  Buffer values;
  bool is_shifted;
  Shift shift;
};

// Scratch of one thread, of as many rows as stay in its first-level cache, and what it has found in them.
struct ProjectionSpace {
  static constexpr std::int64_t gathered_rows = 256;
  static constexpr std::int64_t cached_bytes = 32 << 10;
  static constexpr std::int64_t most_rows = 64;

  ProjectionSpace(const ResidualKernels& kernels, const Matrix& features, std::int64_t padded, std::int64_t vectors)
      : row_capacity(std::clamp(cached_bytes / (padded * kernels.element_size) / 4 * 4, std::int64_t{4}, most_rows)),
        reader(features, gathered_rows),
        loaded(row_capacity * padded * kernels.element_size),
        coefficients(row_capacity * vectors * kernels.element_size),
        energies(row_capacity * 8),
        exponents(row_capacity * 4),
        captured(row_capacity * 8),
        residuals(row_capacity * 8),
        raw_weights(row_capacity * 8),
        unit_weights(row_capacity * 8) {}

  std::int64_t row_capacity;
  RowReader reader;
  Buffer loaded;
  Buffer coefficients;
  Buffer energies;
  Buffer exponents;
  Buffer captured;
  Buffer residuals;
  Buffer raw_weights;
  Buffer unit_weights;
  ReadCounts counts;
};

struct RowGroup {
  const char* rows;
  std::int64_t row_stride;
  std::int64_t first;
  std::int64_t count;
};

// Walks rows first..last in groups that fit the scratch.
template <class Space, class Visit>
void for_each_group(const Matrix& features, Range rows, Space& space, const Visit& visit) {
  const bool gathers = needs_gathering(features);
  // Whole groups, so that the groups, and with them the bits, do not depend on where the rows lie.
  const std::int64_t whole_groups = Space::gathered_rows / space.row_capacity * space.row_capacity;
  const std::int64_t step = gathers ? whole_groups : std::max<std::int64_t>(rows.last - rows.first, 1);
  for (std::int64_t first = rows.first; first < rows.last; first += step) {
    const std::int64_t count = std::min(step, rows.last - first);
    const RowBlock block = space.reader.rows(features, first, count, rows.last, space.counts);
    for (std::int64_t r = 0; r < count; r += space.row_capacity) {
      visit({static_cast<const char*>(block.rows) + r * block.row_stride * size_of(features.dtype), block.row_stride,
             first + r, std::min(space.row_capacity, count - r)});
    }
  }
}

inline BasisArguments basis_arguments(const Basis& basis, const RowGroup& group, const ProjectionSpace& space) {
  return {space.loaded.get(),          group.count,        basis.padded,
          basis.values.get(),          basis.vector_count, space.coefficients.get(),
          space.residuals.as<double>()};
}

// Loads the rows of a group and computes their coefficients.
inline void project_group(const ResidualKernels& kernels, const Matrix& features, const Basis& basis,
                          const RowGroup& group, const ProjectionSpace& space) {
  const BasisArguments arguments = basis_arguments(basis, group, space);
  kernels.load[static_cast<int>(features.dtype)](
      {group.rows, group.row_stride, group.count, features.columns, basis.padded, basis.is_shifted,
       basis.shift.high.get(), basis.shift.low.get(), space.loaded.get(), space.energies.as<double>(),
       space.exponents.as<int>()},
      arguments);
  kernels.project(arguments);
}

// Infinite and NaN values make the energy so; rows that are only large are loaded scaled, and theirs is finite.
inline void note_nonfinite(const RowGroup& group, ProjectionSpace& space) {
  for (std::int64_t r = 0; r < group.count; ++r) {
    if (!std::isfinite(space.energies.as<double>()[r])) merge(space.counts, nonfinite_row(group.first + r));
  }
}

}  // namespace nrc_fast
