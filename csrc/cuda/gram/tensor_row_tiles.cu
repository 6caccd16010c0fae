// Gram of rows of more columns than a tile has, split into three bfloat16 numbers on the way to the tensor cores, in
// each tile anew: planes in memory would be 12 bytes a number of more traffic. Tiles on the diagonal look at the rows.
#include "cuda/gram/row_products.h"

namespace nrc_fast::cuda {
namespace {

// The planes of a segment's stages, each of which is written while the one before it is multiplied.
template <class Gram>
class TileConversion {
 public:
  NRC_FAST_DEVICE TileConversion(const RowGramArguments& arguments, TilePosition tile, int first_sample, int count,
                                 const RowMemory<Gram>& memory, RowConversion<Gram>& conversion)
      : arguments_(arguments),
        memory_(memory),
        conversion_(conversion),
        copies_(arguments, tile, first_sample, count, memory),
        count_(count),
        is_diagonal_(tile.row == tile.column) {
    const bool has_energies = arguments.of.energies != nullptr;
    energies_ = has_energies ? arguments.of.energies + tile.row * arguments.energy_step : nullptr;
    factor_ = factor();
    convert(memory.stage(0));
  }

  NRC_FAST_DEVICE void convert_behind(int stage) {
    if (stage + 1 < count_) convert(memory_.stage(stage + 1));
  }

 private:
  NRC_FAST_DEVICE void convert(char* planes) {
    typename Gram::Row stored[chunk_columns];
    const int row = copies_.row();
    copies_.wait();
    copies_.read(0, stored);
    if (is_diagonal_) {
      copies_.advance();
      conversion_.convert_diagonal(stored, row, factor_, energies_, planes);
    } else {
      conversion_.convert_side(0, stored, factor_, planes);
      copies_.read(1, stored);
      copies_.advance();
      conversion_.convert_side(1, stored, factor_, planes);
    }
    factor_ = factor();  // on its way while this stage is multiplied
  }

  NRC_FAST_DEVICE double factor() const {
    const int row = copies_.row();
    if (row >= arguments_.rows()) return 0.0;
    return arguments_.of.scale == nullptr ? 1.0 : arguments_.of.scale[row];
  }

  const RowGramArguments& arguments_;
  const RowMemory<Gram>& memory_;
  RowConversion<Gram>& conversion_;
  RowCopies<Gram> copies_;
  int count_;
  double factor_;  // of the row in the next stage
  bool is_diagonal_;
  double* energies_;
};

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
    TileConversion<Gram> beside(arguments, tile, first_sample, count, memory, conversion);
    const auto convert_behind = [&](int stage) { beside.convert_behind(stage); };
    products.add(count, is_diagonal, convert_behind, [&](FoldedSums<Gram>& sums) {
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
  if (arguments.of.rows.dtype == DType::float32) return launch_row<float>(arguments, stream);
  if (arguments.of.rows.dtype == DType::float16) return launch_row<Float16>(arguments, stream);
  launch_row<BFloat16>(arguments, stream);
}

}  // namespace nrc_fast::cuda
