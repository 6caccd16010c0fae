// The errors of a linear model of the rows in float64, and what is summed of them. The coefficients of some rows at a
// time lie in the workspace.
#include <stdexcept>

#include "common/arithmetic.h"
#include "cuda/gram/prepare.h"
#include "cuda/machine/workspace.h"
#include "cuda/residual/coefficients.h"
#include "cuda/residual/products.h"

namespace nrc_fast::cuda {
namespace {

constexpr int product_threads = 256;
constexpr std::int64_t coefficient_bytes_at_once = std::int64_t{64} << 20;

// Numbers behind `PredictionError::products`.
NRC_FAST_BOTH std::int64_t product_sums(std::int64_t count) { return count * count + 2; }

struct ErrorArguments {
  const double* coefficients;
  const double* bias;
  MatrixView targets;
  double scale;
  const double* energies;  // of the rows, where their products are wanted
  double* partial;         // parts x sums
  std::int64_t parts;
};

// Of one output of a row.
template <class Target>
NRC_FAST_DEVICE double error_of(const ErrorArguments& arguments, std::int64_t row, std::int64_t output) {
  const double target = as_double(stored_value<Target>(arguments.targets, row, output));
  const double image = arguments.coefficients[row * arguments.targets.columns + output];
  return arguments.scale * image + arguments.bias[output] - target;
}

// One thread for each part of the rows and output.
template <class Target>
NRC_FAST_GLOBAL(product_threads, 2)
squared_errors_kernel(ErrorArguments arguments) {
  const std::int64_t count = arguments.targets.columns;
  const std::int64_t index = block_index() * product_threads + thread_index();
  if (index >= arguments.parts * count) return;
  const std::int64_t part = index / count;
  const std::int64_t output = index % count;
  const WorkPlan shares{1, arguments.parts, arguments.targets.rows};
  const std::int64_t last = shares.block_at(part + 1);
  CompensatedSum sum;
#pragma unroll 4  // so that some rows are on their way
  for (std::int64_t row = shares.block_at(part); row < last; ++row) {
    const double error = error_of<Target>(arguments, row, output);
    sum.add(error * error);
  }
  arguments.partial[index] = sum.total();
}

// One thread for each part of the rows and pair of outputs, and two more for the squares.
template <class Target>
NRC_FAST_GLOBAL(product_threads, 2)
output_products_kernel(ErrorArguments arguments) {
  const std::int64_t count = arguments.targets.columns;
  const std::int64_t sums = product_sums(count);
  const std::int64_t index = block_index() * product_threads + thread_index();
  if (index >= arguments.parts * sums) return;
  const std::int64_t part = index / sums;
  const std::int64_t pair = index % sums;
  const WorkPlan shares{1, arguments.parts, arguments.targets.rows};
  const std::int64_t last = shares.block_at(part + 1);
  CompensatedSum sum;
  for (std::int64_t row = shares.block_at(part); row < last; ++row) {
    const double* const images = arguments.coefficients + row * count;
    if (pair < count * count) {
      sum.add(-error_of<Target>(arguments, row, pair / count) * images[pair % count]);
    } else if (pair == count * count) {
      for (std::int64_t output = 0; output < count; ++output) sum.add(images[output] * images[output]);
    } else {
      sum.add(arguments.energies[row]);
    }
  }
  arguments.partial[index] = sum.total();
}

struct PartialArguments {
  const double* partial;  // parts x count
  std::int64_t parts;
  std::int64_t count;
  const RowCounts* counts;
  double* sums;
};

NRC_FAST_GLOBAL(product_threads, 2)
add_partial_kernel(PartialArguments arguments) {
  const std::int64_t index = block_index() * product_threads + thread_index();
  if (index >= arguments.count || !are_usable(arguments.counts)) return;
  CompensatedSum sum;
  for (std::int64_t part = 0; part < arguments.parts; ++part) {
    sum.add(arguments.partial[part * arguments.count + index]);
  }
  arguments.sums[index] += sum.total();
}

// Rows whose coefficients are in memory at once.
std::int64_t rows_in_memory(const ProductRequest& request) {
  const std::int64_t most = coefficient_bytes_at_once / 8 / (request.count < 1 ? 1 : request.count);
  const std::int64_t at_once = request.rows_at_once > 0 ? request.rows_at_once : (most < 1024 ? 1024 : most);
  return request.features.rows < at_once ? request.features.rows : at_once;
}

std::int64_t error_parts(std::int64_t rows) {
  const std::int64_t parts = ceiling(rows, 64);
  return parts < 4096 ? parts : 4096;
}

// Fewer where there are many products: a million threads fill every device.
std::int64_t pair_parts(std::int64_t rows, std::int64_t count) {
  const std::int64_t filling = ceiling(std::int64_t{1} << 20, product_sums(count));
  const std::int64_t parts = error_parts(rows);
  return parts < filling ? parts : filling;
}

struct Pieces {
  FragmentLayout layout;
  char* records;
  double* coefficients;
  double* energies;
  double* partial;
  std::int64_t bytes;
};

Pieces pieces_of(const ProductRequest& request, const DeviceLimits& device, char* memory) {
  const std::int64_t rows = rows_in_memory(request);
  Workspace workspace(memory);
  Pieces pieces{};
  pieces.layout = plan_coefficients(request.features.dtype, request.features.columns, request.count, device).layout;
  pieces.records = workspace.take<char>(pieces.layout.bytes());
  pieces.coefficients = workspace.take<double>(rows * request.count);
  pieces.energies = workspace.take<double>(rows);
  const std::int64_t of_errors = error_parts(rows) * request.count;
  const std::int64_t of_pairs = pair_parts(rows, request.count) * product_sums(request.count);
  pieces.partial = workspace.take<double>(of_errors > of_pairs ? of_errors : of_pairs);
  pieces.bytes = workspace.used();
  return pieces;
}

bool is_empty(const ProductRequest& request) { return request.features.rows == 0 || request.features.columns == 0; }

Pieces checked_pieces(const ProductRequest& request, const DeviceLimits& device) {
  if (request.counts == nullptr) throw std::invalid_argument("a pass over rows needs memory for its counts");
  require_workspace(request.workspace, request.workspace_bytes, prediction_error_workspace(request, device),
                    "prediction_error");
  return pieces_of(request, device, request.workspace);
}

CoefficientTask coefficient_task(const ProductRequest& request, const Pieces& pieces) {
  return {request.features, request.vectors, request.count, pieces.coefficients,
          pieces.energies,  pieces.layout,   pieces.records};
}

unsigned blocks_of(std::int64_t threads) { return static_cast<unsigned>(ceiling(threads, product_threads)); }

void add_errors(const ErrorArguments& arguments, const RowCounts* counts, double* errors, Stream stream) {
  const std::int64_t count = arguments.targets.columns;
  with_row_type(arguments.targets.dtype, [&](auto target) {
    launch(squared_errors_kernel<decltype(target)>, "squared_errors", {blocks_of(arguments.parts * count)},
           product_threads, 0, stream, arguments);
  });
  launch(add_partial_kernel, "add_errors", {blocks_of(count)}, product_threads, 0, stream,
         PartialArguments{arguments.partial, arguments.parts, count, counts, errors});
}

void add_products(const ErrorArguments& arguments, const RowCounts* counts, double* products, Stream stream) {
  const std::int64_t sums = product_sums(arguments.targets.columns);
  with_row_type(arguments.targets.dtype, [&](auto target) {
    launch(output_products_kernel<decltype(target)>, "output_products", {blocks_of(arguments.parts * sums)},
           product_threads, 0, stream, arguments);
  });
  launch(add_partial_kernel, "add_products", {blocks_of(sums)}, product_threads, 0, stream,
         PartialArguments{arguments.partial, arguments.parts, sums, counts, products});
}

}  // namespace

std::int64_t prediction_error_workspace(const ProductRequest& request, const DeviceLimits& device) {
  return is_empty(request) ? 0 : pieces_of(request, device, nullptr).bytes;
}

void prediction_error(const ProductRequest& request, const PredictionError& sums, const DeviceLimits& device,
                      Stream stream) {
  const MatrixView& targets = sums.targets;
  require_target_columns(request.features, targets, request.count);
  if (is_empty(request) || request.count == 0) return;
  const Pieces pieces = checked_pieces(request, device);
  row_norms({request.features, targets, nullptr, nullptr, request.counts}, stream);
  CoefficientTask task = coefficient_task(request, pieces);
  if (sums.products == nullptr) task.energies = nullptr;
  prepare_coefficients(task, stream);
  const std::int64_t at_once = rows_in_memory(request);
  for (std::int64_t first = 0; first < request.features.rows; first += at_once) {
    const std::int64_t left = request.features.rows - first;
    const std::int64_t count = left < at_once ? left : at_once;
    task.features = part_of(request.features, first, count);
    write_coefficients(task, device, stream);
    ErrorArguments arguments{pieces.coefficients, sums.bias,     part_of(targets, first, count),
                             sums.scale,          task.energies, pieces.partial,
                             error_parts(count)};
    add_errors(arguments, request.counts, sums.errors, stream);
    if (sums.products == nullptr) continue;
    arguments.parts = pair_parts(count, request.count);
    add_products(arguments, request.counts, sums.products, stream);
  }
}

}  // namespace nrc_fast::cuda
