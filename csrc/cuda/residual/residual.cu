// The residual pass: which kernels it launches, and their sums added up in a fixed order.
#include <stdexcept>

#include "cuda/machine/workspace.h"
#include "cuda/residual/basis.h"
#include "cuda/residual/residual.h"
#include "cuda/residual/simt.h"
#include "cuda/residual/tensor_launch.h"

namespace nrc_fast::cuda {
namespace {

// Where tensor cores are that project in float64 as in float32, no launch does without.
template <class Row, class Value>
NRC_FAST_GLOBAL(residual_threads, 2)
residual_kernel(ResidualArguments arguments) {
  if constexpr (!runs_float64_without_tensor_cores) {
    fail();
  } else {
    SimtTile<Row, Value> tile(arguments);
    tile.begin_sums();
    for (std::int64_t row = block_index() * simt_rows; row < arguments.rows.features.rows;
         row += grid_size() * simt_rows) {
      tile.run(row);
    }
    tile.end_sums();
  }
}

struct SumArguments {
  const CompensatedSum* partial;
  CompensatedSum* sums;
  std::int64_t blocks;
  std::int64_t vectors;
  const RowCounts* counts;
  double* raw_sums;
  double* unit_sums;
  double* expanded;
};

constexpr int sum_threads = 128;

NRC_FAST_GLOBAL(sum_threads, 2)
residual_sums_kernel(SumArguments arguments) {
  const std::int64_t size = partial_sums(arguments.vectors);
  const std::int64_t index = block_index() * sum_threads + thread_index();
  if (index >= size) return;
  CompensatedSum sum;
  for (std::int64_t b = 0; b < arguments.blocks; ++b) sum.add(arguments.partial[b * size + index]);
  arguments.sums[index] = sum;
}

// The residual with fewer leading vectors is that with all of them and the squares of the trailing coefficients.
NRC_FAST_GLOBAL(warp_lanes, 1)
leading_sums_kernel(SumArguments arguments) {
  if (thread_index() >= 2 || !are_usable(arguments.counts)) return;
  if (arguments.expanded != nullptr) {
    arguments.expanded[thread_index()] += arguments.sums[2 * arguments.vectors + 2 + thread_index()].total();
  }
  double* const results = thread_index() == 0 ? arguments.raw_sums : arguments.unit_sums;
  if (results == nullptr) return;
  const CompensatedSum* const squares = arguments.sums + thread_index() * arguments.vectors;
  CompensatedSum residual = arguments.sums[2 * arguments.vectors + thread_index()];
  for (std::int64_t k = arguments.vectors; k >= 0; --k) {
    if (k < arguments.vectors) residual.add(squares[k]);
    results[k] += residual.total();
  }
}

struct Pieces {
  TensorPlan plan;
  CompensatedSum* partial;
  CompensatedSum* sums;
  void* coefficients;
  void* basis;
  char* records;
  double* inverse_scales;
  std::int64_t blocks;
  std::int64_t bytes;
};

bool is_double(const ResidualRequest& request) {
  return request.double_precision || request.features.dtype == DType::float64;
}

// Empty where the tensor cores are older than those of compute capability 8.0.
TensorPlan tensor_plan(const ResidualRequest& request, const DeviceLimits& device) {
  if (device.capability.major < 8) return {};
  const MatrixView& rows = request.features;
  if (is_double(request)) return plan_double_tensor(rows.dtype, rows.columns, request.vectors);
  return plan_float_tensor(rows.dtype, rows.columns, request.vectors, request.shift != nullptr);
}

Pieces pieces_of(const ResidualRequest& request, const DeviceLimits& device, char* memory) {
  const std::int64_t value_bytes = is_double(request) ? 8 : 4;
  Pieces pieces{};
  pieces.plan = tensor_plan(request, device);
  const FragmentLayout& layout = pieces.plan.layout;
  const bool has_tensor_cores = layout.kind != FragmentKind::none;
  const int rows = has_tensor_cores ? tensor_rows : simt_rows;
  const std::int64_t tiles = ceiling(request.features.rows, rows);
  const std::int64_t filling = static_cast<std::int64_t>(device.multiprocessors) *
                               (has_tensor_cores ? pieces.plan.blocks_per_multiprocessor : 4);
  pieces.blocks = tiles < filling ? tiles : filling;
  Workspace workspace(memory);
  pieces.partial = workspace.take<CompensatedSum>(pieces.blocks * partial_sums(request.vectors));
  pieces.sums = workspace.take<CompensatedSum>(partial_sums(request.vectors));
  pieces.coefficients =
      workspace.take<char>(pieces.blocks * round_up(request.vectors, group_vectors) * rows * value_bytes);
  pieces.basis = workspace.take<char>(plain_basis_size(request.vectors, request.features.columns) * value_bytes);
  pieces.records = workspace.take<char>(layout.bytes());
  const bool is_scaled = layout.kind == FragmentKind::float16;
  pieces.inverse_scales = workspace.take<double>(is_scaled ? layout.groups * layout.wide * 8 : 0);
  pieces.bytes = workspace.used();
  return pieces;
}

void launch_simt(const ResidualArguments& arguments, bool is_double, std::int64_t blocks, Stream stream) {
  const Grid grid{static_cast<unsigned>(blocks)};
  constexpr auto fixed = static_cast<std::int64_t>(sizeof(TileShared<simt_rows>));
  with_row_type(arguments.rows.features.dtype, [&](auto row) {
    using Row = decltype(row);
    if (is_double) {
      return launch(residual_kernel<Row, double>, "residual", grid, residual_threads,
                    fixed + static_cast<std::int64_t>(sizeof(StepShared<double>)), stream, arguments);
    }
    if constexpr (sizeof(Row) < 8) {
      launch(residual_kernel<Row, float>, "residual", grid, residual_threads,
             fixed + static_cast<std::int64_t>(sizeof(StepShared<float>)), stream, arguments);
    }
  });
}

void launch_tiles(const ResidualRequest& request, const Pieces& pieces, Stream stream) {
  const FragmentLayout& layout = pieces.plan.layout;
  prepare_basis({request.basis, request.vectors, request.features.columns, request.shift, layout, is_double(request),
                 pieces.basis, pieces.records, pieces.inverse_scales},
                stream);
  const ResidualArguments arguments{
      {request.features, are_copyable(request.features), layout, pieces.records, pieces.inverse_scales},
      pieces.basis,
      request.vectors,
      request.shift,
      request.row_residuals,
      request.row_energies,
      request.counts,
      pieces.partial,
      pieces.coefficients,
      least_expanded(is_double(request))};
  switch (layout.kind) {
    case FragmentKind::none:
      return launch_simt(arguments, is_double(request), pieces.blocks, stream);
    case FragmentKind::float64:
      return launch_double_tensor(arguments, pieces.blocks, stream);
    default:
      return launch_float_tensor(arguments, pieces.blocks, stream);
  }
}

}  // namespace

std::int64_t residual_workspace(const ResidualRequest& request, const DeviceLimits& device) {
  if (request.features.rows == 0 || request.features.columns == 0) return 0;
  return pieces_of(request, device, nullptr).bytes;
}

void residual(const ResidualRequest& request, const DeviceLimits& device, Stream stream) {
  if (request.features.rows == 0 || request.features.columns == 0) return;
  if (request.counts == nullptr) throw std::invalid_argument("a residual pass needs memory for its counts");
  require_workspace(request.workspace, request.workspace_bytes, residual_workspace(request, device), "residual");
  const Pieces pieces = pieces_of(request, device, request.workspace);
  fill_zero(pieces.partial,
            pieces.blocks * partial_sums(request.vectors) * static_cast<std::int64_t>(sizeof(CompensatedSum)), stream);
  launch_tiles(request, pieces, stream);
  const SumArguments sums{pieces.partial, pieces.sums,      pieces.blocks,     request.vectors,
                          request.counts, request.raw_sums, request.unit_sums, request.expanded};
  const std::int64_t blocks = ceiling(partial_sums(request.vectors), sum_threads);
  launch(residual_sums_kernel, "residual_sums", {static_cast<unsigned>(blocks)}, sum_threads, 0, stream, sums);
  launch(leading_sums_kernel, "leading_sums", {1}, warp_lanes, 0, stream, sums);
}

}  // namespace nrc_fast::cuda
