// Coefficients of rows in float64: by tensor cores as the residual projects, or one warp for each row.
#include "cuda/gram/row_findings.h"
#include "cuda/residual/basis.h"
#include "cuda/residual/coefficients.h"
#include "cuda/residual/tensor_plan.h"

namespace nrc_fast::cuda {
namespace {

struct TensorCoefficients {
  ProjectedRows rows;
  std::int64_t count;
  double* coefficients;
  double* energies;
};

template <class Products>
NRC_FAST_GLOBAL(residual_threads, TensorProjection<Products>::blocks_at_once)
tensor_coefficients_kernel(TensorCoefficients arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();
  } else {
    using Projection = TensorProjection<Products>;
    Projection projection(arguments.rows, shared_memory());
    projection.start(block_index());
    const std::int64_t tiles = ceiling(arguments.rows.features.rows, tensor_rows);
    for (std::int64_t tile = block_index(); tile < tiles; tile += grid_size()) {
      projection.project([&](int group) {
#pragma unroll
        for (int o = 0; o < octets; ++o) {
          if (!projection.has_row(o)) continue;
          double* const row =
              arguments.coefficients + (tile * tensor_rows + Projection::row_of_octet(o)) * arguments.count;
#pragma unroll
          for (int i = 0; i < Products::wide * 2; ++i) {
            const std::int64_t vector = group * Products::wide * 8 + Projection::vector_of(i);
            if (vector < arguments.count) row[vector] = projection.coefficient(o, i);
          }
        }
        if (group != 0) return;
        bool is_zero = false;
        const double energy = projection.row_energy(is_zero);
        const std::int64_t row = tile * tensor_rows + Projection::row_of_octet(Projection::lane() % 4);
        if (arguments.energies != nullptr && row < arguments.rows.features.rows) arguments.energies[row] = energy;
      });
      synchronize_block();  // before the next tile fills what others still read
      projection.start(tile + grid_size());
    }
  }
}

constexpr int simt_threads = 256;
constexpr int simt_rows_at_once = simt_threads / warp_lanes;
constexpr int vectors_at_once = 4;
constexpr int columns_at_once = 4;

template <class Row>
NRC_FAST_GLOBAL(simt_threads, 2)
simt_coefficients_kernel(CoefficientTask task) {
  if constexpr (!runs_float64_without_tensor_cores) {
    fail();
  } else {
    const int lane = thread_index() % warp_lanes;
    const std::int64_t columns = task.features.columns;
    const std::int64_t step = grid_size() * simt_rows_at_once;
    for (std::int64_t row = block_index() * simt_rows_at_once + thread_index() / warp_lanes; row < task.features.rows;
         row += step) {
      double energy = 0.0;
      // Once where there are no vectors: for the energy.
      for (std::int64_t first = 0; first == 0 || first < task.count; first += vectors_at_once) {
        double sums[vectors_at_once] = {0.0, 0.0, 0.0, 0.0};
        for (std::int64_t c = lane; c < columns; c += columns_at_once * warp_lanes) {
          // Loads first; what is beyond the last column or vector is read from the first, and then left out.
          Row stored[columns_at_once];
          double vectors[columns_at_once][vectors_at_once];
#pragma unroll
          for (int i = 0; i < columns_at_once; ++i) {
            const std::int64_t column = c + i * warp_lanes < columns ? c + i * warp_lanes : lane;
            stored[i] = stored_value<Row>(task.features, row, column);
#pragma unroll
            for (int v = 0; v < vectors_at_once; ++v) {
              vectors[i][v] = first + v < task.count ? task.vectors[(first + v) * columns + column] : 0.0;
            }
          }
#pragma unroll
          for (int i = 0; i < columns_at_once; ++i) {
            const double value = c + i * warp_lanes < columns ? as_double(stored[i]) : 0.0;
            if (first == 0) energy += value * value;
#pragma unroll
            for (int v = 0; v < vectors_at_once; ++v) sums[v] += value * vectors[i][v];
          }
        }
#pragma unroll
        for (int v = 0; v < vectors_at_once; ++v) {
          const double sum = warp_sum(sums[v]);
          if (lane == 0 && first + v < task.count) task.coefficients[row * task.count + first + v] = sum;
        }
      }
      energy = warp_sum(energy);
      if (lane == 0 && task.energies != nullptr) task.energies[row] = energy;
    }
  }
}

void launch_simt(const CoefficientTask& task, Stream stream) {
  const std::int64_t blocks = ceiling(task.features.rows, simt_rows_at_once);
  const Grid grid{static_cast<unsigned>(blocks < 65536 ? blocks : 65536)};
  with_row_type(task.features.dtype, [&](auto row) {
    launch(simt_coefficients_kernel<decltype(row)>, "coefficients", grid, simt_threads, 0, stream, task);
  });
}

}  // namespace

TensorPlan plan_coefficients(DType rows, std::int64_t columns, std::int64_t count, const DeviceLimits& device) {
  return device.capability.major < 8 ? TensorPlan{} : plan_double_tensor(rows, columns, count);
}

void prepare_coefficients(const CoefficientTask& task, Stream stream) {
  if (task.layout.kind == FragmentKind::none) return;
  prepare_basis(
      {task.vectors, task.count, task.features.columns, nullptr, task.layout, true, nullptr, task.records, nullptr},
      stream);
}

void write_coefficients(const CoefficientTask& task, const DeviceLimits& device, Stream stream) {
  if (task.layout.kind == FragmentKind::none) return launch_simt(task, stream);
  const TensorCoefficients arguments{{task.features, are_copyable(task.features), task.layout, task.records, nullptr},
                                     task.count,
                                     task.coefficients,
                                     task.energies};
  const std::int64_t tiles = ceiling(task.features.rows, tensor_rows);
  with_row_type(task.features.dtype, [&](auto row) {
    with_width(task.layout.wide, [&](auto wide) {
      using Products = DoubleProducts<decltype(row), decltype(wide)::value>;
      using Projection = TensorProjection<Products>;
      const std::int64_t filling = static_cast<std::int64_t>(device.multiprocessors) * Projection::blocks_at_once;
      launch(tensor_coefficients_kernel<Products>, "coefficients",
             {static_cast<unsigned>(tiles < filling ? tiles : filling)}, residual_threads,
             static_cast<std::int64_t>(Projection::ring_bytes), stream, arguments);
    });
  });
}

}  // namespace nrc_fast::cuda
