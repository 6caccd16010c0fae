// Vectors of a product with a Gram as the lanes read them, parts of coefficients, energies and images added up.
#include "cuda/gram/product_kernels.h"
#include "cuda/gram/product_sums.h"

namespace nrc_fast::cuda {
namespace {

constexpr int sum_threads = 128;

NRC_FAST_GLOBAL(sum_threads, 2)
prepare_shift_kernel(ShiftArguments arguments) {
  const std::int64_t column = block_index() * sum_threads + thread_index();
  if (column >= arguments.padded_columns) return;
  const bool is_there = arguments.shift != nullptr && column < arguments.columns;
  arguments.padded_shift[column] = is_there ? arguments.shift[column] : 0.0;
}

// Two values of a piece, for each lane, for each tile, for all pairs of a piece, for every step over the columns.
NRC_FAST_GLOBAL(sum_threads, 2)
prepare_vectors_kernel(VectorArguments arguments) {
  const std::int64_t index = block_index() * sum_threads + thread_index();
  if (index >= arguments.size) return;
  const int lane = static_cast<int>(index / 2 % warp_lanes);
  const std::int64_t tile = index / 64 % arguments.tiles;
  const int value = static_cast<int>(index / 64 / arguments.tiles % (piece_values / 2) * 2 + index % 2);
  const std::int64_t step = index / 64 / arguments.tiles / (piece_values / 2);
  const std::int64_t vector = tile * tile_vectors + lane / coefficient_lanes;
  const std::int64_t column =
      step * coefficient_columns + piece_column(arguments.at_once, coefficient_lanes, lane % coefficient_lanes, value);
  const bool is_there = vector < arguments.count && column < arguments.columns;
  arguments.fragments[index] = is_there ? arguments.vectors[vector * arguments.columns + column] : 0.0;
}

// Adds the parts of the columns, and counts rows.
NRC_FAST_GLOBAL(sum_threads, 2)
settle_coefficients_kernel(SettleArguments arguments) {
  const std::int64_t index = block_index() * sum_threads + thread_index();
  if (arguments.parts > 1 && index < arguments.size) {
    double sum = arguments.coefficients[index];
    for (std::int64_t part = 1; part < arguments.parts; ++part) {
      sum += arguments.coefficients[part * arguments.size + index];
    }
    arguments.coefficients[index] = sum;
  }
  if (arguments.counts == nullptr || index >= arguments.rows) return;
  unsigned found = 0;
  for (std::int64_t part = 0; part < arguments.parts; ++part) {
    found |= arguments.flags[part * arguments.padded_rows + index];
  }
  if ((found & is_bad) != 0) {
    count_more(&arguments.counts->nonfinite, 1);
    keep_smallest(&arguments.counts->first_nonfinite, arguments.first_row + index);
  }
  if (found == 0) count_more(&arguments.counts->zero, 1);
}

NRC_FAST_GLOBAL(energy_parts, 1)
add_energies_kernel(TotalArguments arguments) {
  const WorkPlan shares{1, energy_parts, arguments.energy_count};
  const std::int64_t last = shares.block_at(thread_index() + 1);
  CompensatedSum sum = arguments.energy[thread_index()];
  for (std::int64_t e = shares.block_at(thread_index()); e < last; ++e) sum.add(arguments.energies[e]);
  arguments.energy[thread_index()] = sum;
}

// One thread for each number of the results, and one for the energy.
NRC_FAST_GLOBAL(sum_threads, 2)
add_image_kernel(TotalArguments arguments) {
  const std::int64_t index = block_index() * sum_threads + thread_index();
  const std::int64_t size = arguments.units * arguments.columns;
  if (index > size || !are_usable(arguments.counts)) return;
  CompensatedSum sum;
  if (index == size) {
#pragma unroll 8
    for (std::int64_t part = 0; part < arguments.energy_parts; ++part) sum.add(arguments.energy[part]);
    *arguments.sums.energy += sum.total();
    return;
  }
  const std::int64_t unit = index / arguments.columns;
  const std::int64_t column = index % arguments.columns;
  for (std::int64_t part = 0; part < arguments.parts; ++part) {
    sum.add(arguments.image[(part * arguments.units + unit) * arguments.padded_columns + column]);
  }
  double& result =
      unit == 0 ? arguments.sums.column_sums[column] : arguments.sums.image[(unit - 1) * arguments.columns + column];
  result += sum.total();
}

unsigned blocks_of(std::int64_t threads) { return static_cast<unsigned>(ceiling(threads, sum_threads)); }

}  // namespace

void prepare_shift(const ShiftArguments& arguments, Stream stream) {
  launch(prepare_shift_kernel, "prepare_shift", {blocks_of(arguments.padded_columns)}, sum_threads, 0, stream,
         arguments);
}

void prepare_vectors(const VectorArguments& arguments, Stream stream) {
  launch(prepare_vectors_kernel, "prepare_vectors", {blocks_of(arguments.size)}, sum_threads, 0, stream, arguments);
}

void settle_coefficients(const SettleArguments& arguments, Stream stream) {
  launch(settle_coefficients_kernel, "settle_coefficients", {blocks_of(arguments.size)}, sum_threads, 0, stream,
         arguments);
}

void add_energies(const TotalArguments& arguments, Stream stream) {
  launch(add_energies_kernel, "add_energies", {1}, energy_parts, 0, stream, arguments);
}

void add_image(const TotalArguments& arguments, Stream stream) {
  launch(add_image_kernel, "add_image", {blocks_of(arguments.units * arguments.columns + 1)}, sum_threads, 0, stream,
         arguments);
}

}  // namespace nrc_fast::cuda
