// Norms of rows, from what is found of them in each tile of their columns.
#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {
namespace {

constexpr int scale_threads = 256;

struct RowScaleTask {
  std::int64_t rows;
  std::int64_t tiles;
  double* energies;
};

NRC_FAST_GLOBAL(scale_threads, 1)
row_scales_kernel(RowScaleTask task) {
  for (std::int64_t row = block_index() * scale_threads + thread_index(); row < task.rows;
       row += grid_size() * scale_threads) {
    RowEnergy<false> energy;
#pragma unroll 8
    for (std::int64_t tile = 0; tile < task.tiles; ++tile) energy.sum += task.energies[tile * task.rows + row];
    task.energies[row] = energy.inverse_norm();
  }
}

}  // namespace

void find_scales(std::int64_t rows, std::int64_t tiles, double* energies, Stream stream) {
  if (rows == 0) return;
  const std::int64_t blocks = ceiling(rows, scale_threads);
  const RowScaleTask task{rows, tiles, energies};
  launch(row_scales_kernel, "row_scales", {static_cast<unsigned>(blocks < 65536 ? blocks : 65536)}, scale_threads, 0,
         stream, task);
}

}  // namespace nrc_fast::cuda
