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
  double* gram;
  std::int64_t columns;
  std::int64_t slab_values;
  int parts;
  bool skips_empty;
};

template <int size, SlabOrder order>
NRC_FAST_DEVICE GramElement slab_element(std::int64_t tile, std::int64_t columns, int index) {
  if constexpr (order == SlabOrder::shares) {
    return double_slab_element(tile, columns, index);
  } else {
    const TilePosition position = tile_position(tile);
    TileElement inner{index / size, index % size};
    if constexpr (order == SlabOrder::fragments) {
      constexpr int threads = WarpLayout<size>::warps * warp_lanes;
      inner = tile_element<size>(index % threads, index / threads);
    }
    return {position.row * size + inner.row, position.column * size + inner.column};
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
  const std::int64_t pieces = arguments.slab_values / elements;
  const std::int64_t tile = block_index() / pieces;
  const int index = static_cast<int>(block_index() % pieces) * elements + thread_index() % elements;
  const GramElement element = slab_element<size, order>(tile, arguments.columns, index);
  const bool is_wanted = element.row >= 0 && element.row < arguments.columns && element.column <= element.row;
  const int part = thread_index() / elements;
  double sum = is_wanted ? sum_of_part(arguments, tile, index, part) : 0.0;
  sums[thread_index()] = sum;
  synchronize_block();
  if (part > 0 || !is_wanted) return;
  for (int p = 1; p < arguments.parts; ++p) sum += sums[p * elements + thread_index()];
  if (arguments.factor != nullptr) sum *= *arguments.factor;
  arguments.gram[element.row * arguments.columns + element.column] += sum;
}

template <int size, SlabOrder order>
void launch_finalize(const FinalizeArguments& arguments, Stream stream) {
  const std::int64_t blocks = arguments.plan.tiles * (arguments.slab_values * arguments.parts / finalize_threads);
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

void finalize_gram(GramMethod method, std::int64_t rows, std::int64_t columns, std::int64_t workers,
                   const double* slabs, const RowCounts* counts, const double* factor, double* gram, Stream stream) {
  const WorkPlan plan = plan_for(method, rows, columns, workers);
  int parts = 1;
  while (parts < most_parts && parts * loads_at_once * plan.tiles < workers) parts *= 2;
  const FinalizeArguments arguments{plan,    slabs, counts, factor, gram, columns, slab_values(method, columns),
                                    parts, is_direct(method)};
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

}  // namespace nrc_fast::cuda
