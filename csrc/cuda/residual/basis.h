// The basis of a residual pass as its kernels read it, prepared once for each launch.
#pragma once

#include "cuda/residual/arguments.h"

namespace nrc_fast::cuda {

struct BasisTask {
  const double* vectors;  // count x columns
  std::int64_t count;
  std::int64_t columns;
  const double* shift;
  FragmentLayout layout;
  bool is_double;          // the plain basis
  void* plain;             // null, or group, column, vector of the group: zeros where there is none
  char* records;           // as the layout says
  double* inverse_scales;  // of the vectors of all groups; null unless fragments are float16
};

// Numbers of the plain basis.
NRC_FAST_BOTH std::int64_t plain_basis_size(std::int64_t vectors, std::int64_t columns) {
  return round_up(vectors < 1 ? 1 : vectors, group_vectors) * round_up(columns, step_columns);
}

void prepare_basis(const BasisTask& task, Stream stream);

}  // namespace nrc_fast::cuda
