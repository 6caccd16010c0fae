// The Gram kernel of warpgroups, as tensor.cu hands work to it.
#pragma once

#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {

constexpr std::int64_t most_warpgroup_columns = 256;

// Whether it forms these products, and how it is launched then.
bool can_use_warpgroups(GramMethod method, const MatrixView& rows, const DeviceLimits& device);
TensorShape warpgroup_shape(GramMethod method, std::int64_t columns);

// One plane whose first row is the pass's `first_row`, a multiple of 32, and whose rows do not lie in one another.
void add_warpgroup_gram(const TensorShape& shape, const Planes& planes, std::int64_t first_row, std::int64_t workers,
                        double* slabs, const TensorFindings& findings, Stream stream);

}  // namespace nrc_fast::cuda
