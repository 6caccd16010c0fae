// Coefficients of rows, their products with a few vectors, in float64, and the energies of the rows.
#pragma once

#include "cuda/machine/runtime.h"
#include "cuda/residual/tensor_launch.h"

namespace nrc_fast::cuda {

struct CoefficientTask {
  MatrixView features;
  const double* vectors;
  std::int64_t count;
  double* coefficients;   // rows x count
  double* energies;       // of the rows; null where they are not wanted
  FragmentLayout layout;  // of the vectors in `records`, where there are tensor cores
  char* records;
};

// How the vectors are laid out: see `prepare_coefficients`.
TensorPlan plan_coefficients(DType rows, std::int64_t columns, std::int64_t count, const DeviceLimits& device);

// Writes the records, once for all tasks with these vectors.
void prepare_coefficients(const CoefficientTask& task, Stream stream);
void write_coefficients(const CoefficientTask& task, const DeviceLimits& device, Stream stream);

}  // namespace nrc_fast::cuda
