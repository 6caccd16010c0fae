// What Python gives, which are addresses, sizes and strides, as pointers, matrices and requests.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/requests.h"

namespace nrc_fast {

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT: Python holds the memory
}

inline DType dtype_from_code(int code) {
  if (code < 0 || code >= dtype_count) {
    throw std::invalid_argument("dtype code " + std::to_string(code) + " is not one of 0..3");
  }
  return static_cast<DType>(code);
}

inline MatrixView make_view(Address data, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                            std::int64_t column_stride, int dtype) {
  if (rows < 0 || columns < 0) throw std::invalid_argument("a matrix has no negative size");
  return {pointer<const void>(data), rows, columns, row_stride, column_stride, dtype_from_code(dtype)};
}

inline ResidualJob make_residual_job(Address basis, std::int64_t vectors, Address raw_sums, Address unit_sums,
                                     Address shift, Address row_residuals, Address row_energies, Address expanded) {
  if (vectors < 0) throw std::invalid_argument("a basis has no negative number of vectors");
  return {pointer<const double>(basis),  vectors,
          pointer<const double>(shift),  pointer<double>(raw_sums),
          pointer<double>(unit_sums),    pointer<double>(row_residuals),
          pointer<double>(row_energies), pointer<double>(expanded)};
}

inline DescentBatch make_descent_batch(std::int64_t problems, std::int64_t d, std::int64_t n, std::int64_t stride,
                                       Address transforms, Address weights, Address biases,
                                       Address transform_velocities, Address weight_velocities, Address bias_velocities,
                                       Address moments, Address moment_index, Address rates, Address steps,
                                       bool double_precision) {
  DescentBatch batch;
  batch.double_precision = double_precision;
  batch.problems = problems;
  batch.d = d;
  batch.n = n;
  batch.stride = stride;
  batch.transforms = pointer<void>(transforms);
  batch.weights = pointer<void>(weights);
  batch.biases = pointer<void>(biases);
  batch.transform_velocities = pointer<void>(transform_velocities);
  batch.weight_velocities = pointer<void>(weight_velocities);
  batch.bias_velocities = pointer<void>(bias_velocities);
  batch.moments = pointer<const void>(moments);
  batch.moment_index = pointer<const std::int64_t>(moment_index);
  batch.rates = pointer<const double>(rates);
  batch.steps = pointer<const std::int64_t>(steps);
  return batch;
}

}  // namespace nrc_fast
