// Which tensor-core kernel a pass is launched with, and what it needs. The kernels of float32 and of float64 sums, and
// those that write coefficients only, are translated apart.
#pragma once

#include "cuda/machine/runtime.h"
#include "cuda/residual/arguments.h"

namespace nrc_fast::cuda {

// What is asked for before there is any memory: how the basis is to be laid out, and how many blocks run side by side.
struct TensorPlan {
  FragmentLayout layout;
  int blocks_per_multiprocessor = 0;
};

TensorPlan plan_float_tensor(DType rows, std::int64_t columns, std::int64_t vectors, bool has_shift);
TensorPlan plan_double_tensor(DType rows, std::int64_t columns, std::int64_t vectors);

void launch_float_tensor(const ResidualArguments& arguments, std::int64_t blocks, Stream stream);
void launch_double_tensor(const ResidualArguments& arguments, std::int64_t blocks, Stream stream);

}  // namespace nrc_fast::cuda
