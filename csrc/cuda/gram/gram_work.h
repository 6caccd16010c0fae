// The workers of one Gram matrix, and the slabs that they leave their sums in.
#pragma once

#include "cuda/gram/slabs.h"
#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {

// Blocks of a method's kernel that run at once on the device.
inline std::int64_t blocks_at_once(GramMethod method, const MatrixView& rows, const DeviceLimits& device) {
  std::int64_t blocks = 0;
  if (!is_direct(method)) {
    blocks = tensor_shape(method, rows, device).blocks;
  } else if (method == GramMethod::tensor_float64) {
    blocks = double_tensor_blocks(rows.dtype, rows.columns);
  } else {
    blocks = direct_gram_blocks(method, rows.dtype);
  }
  return device.multiprocessors * blocks;
}

struct GramWork {
  GramMethod method;
  MatrixView rows;
  std::int64_t workers;
  std::int64_t slabs;
  std::int64_t slab_values;  // in all of them
  double* values = nullptr;

  GramWork(GramMethod method_, const MatrixView& rows_, std::int64_t at_once, std::int64_t least_rows,
           std::int64_t values_of_slab)
      : method(method_),
        rows(rows_),
        workers(workers_for(tile_count(method, rows.columns), rows.rows, least_rows, at_once)),
        slabs(slab_count(plan_for(method, rows.rows, rows.columns, workers))),
        slab_values(slabs * values_of_slab) {}
  GramWork(GramMethod method_, const MatrixView& rows_, const DeviceLimits& device)
      : GramWork(method_, rows_, blocks_at_once(method_, rows_, device), least_rows_of_worker(method_, rows_.columns),
                 cuda::slab_values(method_, rows_.columns)) {}
};

}  // namespace nrc_fast::cuda
