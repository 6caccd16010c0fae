// The residual pass: which kernels it launches, and their sums added up in a fixed order.
#include <stdexcept>
#include <string>

#include "cuda/machine/workspace.h"
#include "cuda/residual/kernel.h"
#include "cuda/residual/residual.h"

namespace nrc_fast::cuda {
namespace {

template <class Row, class Value>
NRC_FAST_GLOBAL(residual_threads, 2)
residual_kernel(ResidualArguments arguments) {
  auto& shared = *static_cast<ResidualShared<Value>*>(static_cast<void*>(shared_memory()));
  ResidualTile<Row, Value> tile(arguments, shared);
  for (std::int64_t row = block_index() * tile_rows; row < arguments.features.rows; row += grid_size() * tile_rows) {
    tile.run(row);
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
  CompensatedSum* partial;
  CompensatedSum* sums;
  void* coefficients;
  std::int64_t blocks;
  std::int64_t bytes;
};

bool is_double(const ResidualRequest& request) {
  return request.double_precision || request.features.dtype == DType::float64;
}

Pieces pieces_of(const ResidualRequest& request, const DeviceLimits& device, char* memory) {
  const std::int64_t tiles = ceiling(request.features.rows, tile_rows);
  const std::int64_t filling = static_cast<std::int64_t>(device.multiprocessors) * 4;
  Workspace workspace(memory);
  Pieces pieces{};
  pieces.blocks = tiles < filling ? tiles : filling;
  pieces.partial = workspace.take<CompensatedSum>(pieces.blocks * partial_sums(request.vectors));
  pieces.sums = workspace.take<CompensatedSum>(partial_sums(request.vectors));
  const std::int64_t padded_vectors = round_up(request.vectors, group_vectors);
  pieces.coefficients = workspace.take<char>(pieces.blocks * padded_vectors * tile_rows * (is_double(request) ? 8 : 4));
  pieces.bytes = workspace.used();
  return pieces;
}

template <class Row, class Value>
void launch_residual(const ResidualArguments& arguments, std::int64_t blocks, Stream stream) {
  launch(residual_kernel<Row, Value>, "residual", {static_cast<unsigned>(blocks)}, residual_threads,
         static_cast<std::int64_t>(sizeof(ResidualShared<Value>)), stream, arguments);
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
  const ResidualArguments arguments{
      request.features,     request.basis,  request.vectors, request.shift,       request.row_residuals,
      request.row_energies, request.counts, pieces.partial,  pieces.coefficients, least_expanded(is_double(request))};
  with_row_type(request.features.dtype, [&](auto row) {
    using Row = decltype(row);
    if (is_double(request)) return launch_residual<Row, double>(arguments, pieces.blocks, stream);
    if constexpr (sizeof(Row) < 8) launch_residual<Row, float>(arguments, pieces.blocks, stream);
  });
  const SumArguments sums{pieces.partial, pieces.sums,      pieces.blocks,     request.vectors,
                          request.counts, request.raw_sums, request.unit_sums, request.expanded};
  const std::int64_t blocks = ceiling(partial_sums(request.vectors), sum_threads);
  launch(residual_sums_kernel, "residual_sums", {static_cast<unsigned>(blocks)}, sum_threads, 0, stream, sums);
  launch(leading_sums_kernel, "leading_sums", {1}, warp_lanes, 0, stream, sums);
}

}  // namespace nrc_fast::cuda
