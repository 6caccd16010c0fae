// Slabs of a Gram kernel, added up in the order of their rows.
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {
namespace {

constexpr int finalize_threads = 256;
// Threads that add up the slabs of one element, each every so manieth of them.
constexpr int most_parts = 16;
constexpr int loads_at_once = 4;

struct FinalizeArguments {
  WorkPlan plan;
  const double* slabs;
  const RowCounts* counts;
  const double* factor;
  GramMoments sums;
  std::int64_t slab_values;
  int parts;
  bool skips_empty;
};

// Where an element of the moments is added to; null: nowhere.
NRC_FAST_DEVICE double* moment_place(const GramMoments& sums, int index) {
  const TileElement element =
      moment_element(index % moment_lanes / warp_lanes, index % warp_lanes, index / moment_lanes);
  if (element.row < 0 || element.column > element.row) return nullptr;
  if (element.row < narrow_columns) {
    return element.row < sums.columns ? sums.gram + element.row * sums.columns + element.column : nullptr;
  }
  const int target = element.row - narrow_columns;
  const bool is_of_ones = target == sums.targets;
  if (target > sums.targets) return nullptr;
  if (element.column < narrow_columns) {
    if (element.column >= sums.columns) return nullptr;
    double* const array = is_of_ones ? sums.column_sums : sums.cross;
    return array == nullptr ? nullptr : array + (is_of_ones ? 0 : target * sums.columns) + element.column;
  }
  const int other = element.column - narrow_columns;
  if (other >= sums.targets) return nullptr;
  double* const array = is_of_ones ? sums.target_sums : sums.target_gram;
  return array == nullptr ? nullptr : array + (is_of_ones ? 0 : target * sums.targets) + other;
}

template <int size, SlabOrder order>
NRC_FAST_DEVICE GramElement slab_element(std::int64_t tile, std::int64_t columns, int index) {
  if constexpr (order == SlabOrder::shares) {
    return double_slab_element(tile, columns, index);
  } else {
    const TilePosition position = tile_position(tile);
    TileElement inner{index / size, index % size};
    if constexpr (order == SlabOrder::fragments) inner = tile_element<size>(index);
    return {position.row * size + inner.row, position.column * size + inner.column};
  }
}

template <int size, SlabOrder order>
NRC_FAST_DEVICE double* place_of(const GramMoments& sums, std::int64_t tile, int index) {
  if constexpr (order == SlabOrder::moments) {
    return moment_place(sums, index);
  } else {
    const GramElement element = slab_element<size, order>(tile, sums.columns, index);
    const bool is_wanted = element.row >= 0 && element.row < sums.columns && element.column <= element.row;
    return is_wanted ? sums.gram + element.row * sums.columns + element.column : nullptr;
  }
}

// The sum of an element over every `parts`-th slab of its tile, from the part's own on.
NRC_FAST_DEVICE double sum_of_part(const FinalizeArguments& arguments, std::int64_t tile, int index, int part) {
  const double* const values = arguments.slabs + index;
  double sum = 0.0;
  SlabWalk walk(arguments.plan, tile);
  SlabRun run{};
  std::int64_t before = 0;  // slabs of earlier runs
  for (; walk.next(run); before += run.count) {
    const bool asks = arguments.skips_empty && !run.all_have_blocks(arguments.plan);
    const std::int64_t first = (part - before) & (arguments.parts - 1);  // parts are a power of two
    for (std::int64_t next = first; next < run.count; next += loads_at_once * arguments.parts) {
      double loaded[loads_at_once];
#pragma unroll
      for (int i = 0; i < loads_at_once; ++i) {
        const std::int64_t slab = next + i * arguments.parts;
        const bool is_read = slab < run.count && (!asks || run.has_blocks(arguments.plan, slab));
        loaded[i] = is_read ? values[run.slab(slab) * arguments.slab_values] : 0.0;
      }
#pragma unroll
      for (int i = 0; i < loads_at_once; ++i) sum += loaded[i];
    }
  }
  return sum;
}

template <int size, SlabOrder order>
NRC_FAST_GLOBAL(finalize_threads, 1)
gram_finalize_kernel(FinalizeArguments arguments) {
  if (!are_usable(arguments.counts)) return;
  auto* const sums = static_cast<double*>(static_cast<void*>(shared_memory()));
  const int elements = finalize_threads / arguments.parts;
  const std::int64_t pieces = ceiling(arguments.slab_values, elements);
  const std::int64_t tile = block_index() / pieces;
  const int index = static_cast<int>(block_index() % pieces) * elements + thread_index() % elements;
  double* const place = index < arguments.slab_values ? place_of<size, order>(arguments.sums, tile, index) : nullptr;
  const int part = thread_index() / elements;
  double sum = place != nullptr ? sum_of_part(arguments, tile, index, part) : 0.0;
  sums[thread_index()] = sum;
  synchronize_block();
  if (part > 0 || place == nullptr) return;
  for (int p = 1; p < arguments.parts; ++p) sum += sums[p * elements + thread_index()];
  if (arguments.factor != nullptr) sum *= *arguments.factor;
  *place += sum;
}

template <int size, SlabOrder order>
void launch_finalize(const FinalizeArguments& arguments, Stream stream) {
  const std::int64_t blocks = arguments.plan.tiles * ceiling(arguments.slab_values, finalize_threads / arguments.parts);
  launch(gram_finalize_kernel<size, order>, "gram_finalize", {static_cast<unsigned>(blocks)}, finalize_threads,
         finalize_threads * 8, stream, arguments);
}

}  // namespace

int tile_size(GramMethod method, std::int64_t columns) {
  return slab_order(method) == SlabOrder::row_major || columns <= 64 ? 64 : 128;
}

std::int64_t tile_count(GramMethod method, std::int64_t columns) {
  if (slab_order(method) == SlabOrder::shares) return double_item_count(columns);
  return lower_tiles(ceiling(columns, tile_size(method, columns)));
}

std::int64_t slab_values(GramMethod method, std::int64_t columns) {
  if (slab_order(method) == SlabOrder::shares) return std::int64_t{double_sums} * slab_lanes(columns);
  const std::int64_t size = tile_size(method, columns);
  return size * size;
}

int block_rows(GramMethod method) {
  switch (method) {
    case GramMethod::tensor_bfloat16:
    case GramMethod::tensor_float16:
      return 32;
    default:
      return direct_block_rows;
  }
}

SlabOrder slab_order(GramMethod method) {
  switch (method) {
    case GramMethod::tensor_bfloat16:
    case GramMethod::tensor_float16:
    case GramMethod::tensor_split:
      return SlabOrder::fragments;
    case GramMethod::tensor_float64:
      return SlabOrder::shares;
    default:
      return SlabOrder::row_major;
  }
}

namespace {

FinalizeArguments finalize_arguments(const WorkPlan& plan, const double* slabs, std::int64_t values,
                                     const RowCounts* counts, const GramMoments& sums) {
  int parts = 1;
  while (parts < most_parts && parts * loads_at_once * plan.tiles < plan.workers) parts *= 2;
  return {plan, slabs, counts, nullptr, sums, values, parts, true};
}

}  // namespace

void finalize_gram(GramMethod method, std::int64_t rows, std::int64_t columns, std::int64_t workers,
                   const double* slabs, const RowCounts* counts, const double* factor, double* gram, Stream stream) {
  GramMoments sums{};
  sums.gram = gram;
  sums.columns = columns;
  FinalizeArguments arguments =
      finalize_arguments(plan_for(method, rows, columns, workers), slabs, slab_values(method, columns), counts, sums);
  arguments.factor = factor;
  arguments.skips_empty = is_direct(method);
  switch (slab_order(method)) {
    case SlabOrder::row_major:
      return launch_finalize<64, SlabOrder::row_major>(arguments, stream);
    case SlabOrder::shares:
      return launch_finalize<64, SlabOrder::shares>(arguments, stream);
    default:
      break;
  }
  if (tile_size(method, columns) == 64) return launch_finalize<64, SlabOrder::fragments>(arguments, stream);
  launch_finalize<128, SlabOrder::fragments>(arguments, stream);
}

void finalize_moments(std::int64_t rows, std::int64_t workers, const double* slabs, const RowCounts* counts,
                      const GramMoments& sums, Stream stream) {
  const WorkPlan plan = plan_for(GramMethod::tensor_float64, rows, sums.columns, workers);
  launch_finalize<64, SlabOrder::moments>(finalize_arguments(plan, slabs, moment_values, counts, sums), stream);
}

}  // namespace nrc_fast::cuda
