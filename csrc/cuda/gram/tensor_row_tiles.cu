// Gram of rows of more columns than a tile has, split into three bfloat16 numbers on the way to the tensor cores, in
// each tile anew: planes in memory would be 12 bytes a number of more traffic. Tiles on the diagonal look at the rows.
#include "cuda/gram/row_products.h"

namespace nrc_fast::cuda {
namespace {

// Planes of one stage, from copies that have been started.
template <class Gram>
NRC_FAST_DEVICE void convert_stage(RowCopies<Gram>& copies, RowConversion<Gram>& conversion, bool is_diagonal, int row,
                                   char* planes) {
  typename Gram::Row stored[chunk_columns];
  copies.wait();
  copies.read(0, stored);
  if (is_diagonal) {
    copies.advance();
    conversion.convert(stored, row, planes);
    return;
  }
  conversion.convert_side(0, stored, row, planes);
  copies.read(1, stored);
  copies.advance();
  conversion.convert_side(1, stored, row, planes);
}

template <class Gram>
NRC_FAST_GLOBAL(Gram::threads, 1)
gram_row_tiles_kernel(RowGramArguments arguments) {
  if constexpr (!runs_largest_blocks) {
    fail();
    return;
  }
  const RowMemory<Gram> memory;
  RowProducts<Gram> products(memory);
  RowConversion<Gram> conversion(arguments, memory.shift);
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    const int count = static_cast<int>(segment.last_block - segment.first_block);
    if (count == 0) continue;
    const TilePosition tile = tile_position(segment.tile);
    const bool is_diagonal = tile.row == tile.column;
    memory.load_shift(arguments, tile);  // nobody has read those before since the last barrier
    synchronize_block();                 // and all are done with the planes of the segment before
    const int first_sample = static_cast<int>(segment.first_block) * Gram::stage_rows;
    RowCopies<Gram> copies(arguments, tile, first_sample, count, memory);
    int row = first_sample + thread_index() / Gram::row_chunks;
    convert_stage(copies, conversion, is_diagonal, row, memory.stage(0));
    const auto convert_next = [&](int b) {
      row += Gram::stage_rows;
      if (b + 1 < count) convert_stage(copies, conversion, is_diagonal, row, memory.stage(b + 1));
    };
    products.add(count, is_diagonal, convert_next, [&](FoldedSums<Gram>& sums) {
      const std::int64_t slab = slab_index(arguments.plan, block_index(), ordinal);
      add_to_slab(sums, arguments.slabs + slab * (Gram::size * Gram::size));
      if (is_diagonal && arguments.findings.sums != nullptr) {
        conversion.add_to(arguments.findings.sums + slab * (Gram::row_step * Gram::size));
      }
    });
    wait_for_copies<0>();
  }
  if (arguments.findings.below != nullptr) conversion.keep_largest(arguments.findings.below);
}

template <class Row>
void launch_row(const RowGramArguments& arguments, Stream stream) {
  using Gram = RowGram<Row, 128, 2, false>;
  launch(gram_row_tiles_kernel<Gram>, "gram_row_tiles", {static_cast<unsigned>(arguments.plan.workers)}, Gram::threads,
         Gram::shared_bytes, stream, arguments);
}

}  // namespace

void launch_row_tiles(const RowGramArguments& arguments, Stream stream) {
  if (arguments.rows.dtype == DType::float32) return launch_row<float>(arguments, stream);
  if (arguments.rows.dtype == DType::float16) return launch_row<Float16>(arguments, stream);
  launch_row<BFloat16>(arguments, stream);
}

}  // namespace nrc_fast::cuda
