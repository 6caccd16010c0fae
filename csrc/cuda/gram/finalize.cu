// Slabs of a Gram kernel, added up in the order of their rows.
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {
namespace {

constexpr int finalize_threads = 256;

struct FinalizeArguments {
  WorkPlan plan;
  const double* slabs;
  const RowCounts* counts;
  const double* factor;
  double* gram;
  std::int64_t columns;
};

template <int size, SlabOrder order>
NRC_FAST_DEVICE TileElement slab_element(int index) {
  if constexpr (order == SlabOrder::row_major) {
    return {index / size, index % size};
  } else {
    return tile_element<size>(index);
  }
}

template <int size, SlabOrder order>
NRC_FAST_GLOBAL(finalize_threads, 1)
gram_finalize_kernel(FinalizeArguments arguments) {
  if (!are_usable(arguments.counts)) return;
  constexpr int pieces = size * size / finalize_threads;
  const std::int64_t tile = block_index() / pieces;
  const int index = static_cast<int>(block_index() % pieces) * finalize_threads + thread_index();
  const TilePosition position = tile_position(tile);
  const TileElement element = slab_element<size, order>(index);
  const std::int64_t row = position.row * size + element.row;
  const std::int64_t column = position.column * size + element.column;
  if (row >= arguments.columns || column > row) return;
  double sum = 0.0;
  SlabWalk walk(arguments.plan, tile);
  std::int64_t slab = 0;
  while (walk.next(slab)) sum += arguments.slabs[slab * (size * size) + index];
  if (arguments.factor != nullptr) sum *= *arguments.factor;
  arguments.gram[row * arguments.columns + column] += sum;
}

template <int size, SlabOrder order>
void launch_finalize(const FinalizeArguments& arguments, Stream stream) {
  const std::int64_t blocks = arguments.plan.tiles * (size * size / finalize_threads);
  launch(gram_finalize_kernel<size, order>, "gram_finalize", {static_cast<unsigned>(blocks)}, finalize_threads, 0,
         stream, arguments);
}

}  // namespace

int tile_size(GramMethod method, std::int64_t columns) {
  return slab_order(method) == SlabOrder::row_major || columns <= 64 ? 64 : 128;
}

int block_rows(GramMethod method) {
  switch (method) {
    case GramMethod::tensor_bfloat16:
    case GramMethod::tensor_float16:
      return 32;
    default:
      return 16;
  }
}

SlabOrder slab_order(GramMethod method) {
  switch (method) {
    case GramMethod::tensor_bfloat16:
    case GramMethod::tensor_float16:
    case GramMethod::tensor_split:
      return SlabOrder::fragments;
    default:
      return SlabOrder::row_major;
  }
}

void finalize_gram(GramMethod method, std::int64_t columns, std::int64_t workers, const double* slabs,
                   const RowCounts* counts, const double* factor, double* gram, Stream stream) {
  const FinalizeArguments arguments{plan_for(method, 0, columns, workers), slabs, counts, factor, gram, columns};
  if (slab_order(method) == SlabOrder::row_major) {
    return launch_finalize<64, SlabOrder::row_major>(arguments, stream);
  }
  if (tile_size(method, columns) == 64) return launch_finalize<64, SlabOrder::fragments>(arguments, stream);
  launch_finalize<128, SlabOrder::fragments>(arguments, stream);
}

}  // namespace nrc_fast::cuda
