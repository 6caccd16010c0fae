// Gram of 16-bit rows by tensor cores: sums of products of one to three planes, mma.m16n8k16.
//
// A block works through its segments of the plan. Rows come by asynchronous copies into a ring of stages, both sides
// of a tile once where they are the same columns. Tensor cores round toward zero, so that a long sum of squares would
// be biased: every few hundred rows the accumulators are added to a second set, rounding to nearest, and that set every
// few thousand rows to the float64 slab. Products of the small planes have accumulators of their own, or the large ones
// would cut them off. What else is to be known of rows that are multiplied as they are stored is found on the way.
#include <type_traits>

#include "cuda/gram/tensor.h"
#include "cuda/gram/tensor_findings.h"
#include "cuda/gram/tensor_products.h"
#include "cuda/gram/tensor_ring.h"
#include "cuda/gram/warpgroup_gram.h"

namespace nrc_fast::cuda {
namespace {

struct TensorGramArguments {
  Planes planes;
  WorkPlan plan;
  double* slabs;
  TensorFindings findings;
  std::int64_t first_row;  // of the planes, in the pass
};

template <class Row, class Gram, int blocks>
NRC_FAST_GLOBAL(Gram::threads, blocks)
gram_tensor_kernel(TensorGramArguments arguments) {
  if constexpr (Gram::sums_in_shared && !runs_largest_blocks) {
    fail();
    return;
  }
  constexpr bool is_bfloat16 = std::is_same_v<Row, BFloat16>;
  char* const shared = shared_memory();
  char* const last_stage = shared + (Gram::stages - 1) * Gram::stage_bytes;
  const WarpPlaces<Gram> places;
  Accumulators<Gram::accumulators> large;
  Accumulators<Gram::accumulators> small;  // of nothing where there is one part
  FoldedSums<Gram> sums(last_stage + Gram::stage_bytes);
  StageFindings<Row, Gram> findings;
  large.clear();
  small.clear();
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    const int count = static_cast<int>(segment.last_block - segment.first_block);
    if (count == 0) continue;
    const int first_sample = static_cast<int>(segment.first_block) * Gram::stage_rows;
    const TilePosition tile = tile_position(segment.tile);
    const bool is_diagonal = tile.row == tile.column;
    const int is_looked_at = kept(Gram::finds && is_diagonal && arguments.findings.sums != nullptr ? 1 : 0);
    StageCopies<Gram> copies(arguments.planes, tile, first_sample, count);
#pragma unroll
    for (int s = 0; s < Gram::stages - 1; ++s) {
      copies.start(shared + s * Gram::stage_bytes);
      commit_copies();
    }
    char* stage = shared;
    char* next = last_stage;
    for (int b = 0; b < count;) {
      const int fold_end = b + Gram::fold_blocks() < count ? b + Gram::fold_blocks() : count;
      for (; b < fold_end; ++b) {
        wait_for_copies<Gram::stages - 2>();
        synchronize_block();  // the block has arrived for all threads, and all are done with the one before it
        copies.start(next);
        commit_copies();
        multiply_block<is_bfloat16, Gram>(stage, stage + (is_diagonal ? 0 : Gram::side_bytes), places, large, small);
        if constexpr (Gram::finds) {
          if (is_looked_at != 0) {
            const std::int64_t word = (arguments.first_row + first_sample) / Gram::stage_rows + b;
            findings.see(stage, arguments.findings.masks, word);
          }
        }
        next = stage;
        stage = kept_shared(stage == last_stage ? shared : stage + Gram::stage_bytes);
      }
      if constexpr (Gram::parts > 1) fold_into(sums, small);
      fold_into(sums, large);
      if (b % Gram::slab_blocks == 0 || b == count) {
        const std::int64_t slab = slab_index(arguments.plan, block_index(), ordinal);
        add_to_slab(sums, arguments.slabs + slab * (Gram::size * Gram::size));
        if constexpr (Gram::finds) {
          if (is_looked_at != 0) findings.add_to(arguments.findings.sums + slab * (Gram::row_step * Gram::size));
        }
      }
    }
    wait_for_copies<0>();
    synchronize_block();  // before the next segment fills the stages
  }
  if constexpr (Gram::finds) {
    if (arguments.findings.below != nullptr) findings.keep_largest(arguments.findings.below);
  }
}

template <class Row, class Gram>
void launch_shape(const TensorGramArguments& arguments, Stream stream) {
  // Registers are for two blocks where a block has four warps.
  constexpr int blocks = Gram::threads == 128 ? 2 : 1;
  launch(gram_tensor_kernel<Row, Gram, blocks>, "gram_tensor", {static_cast<unsigned>(arguments.plan.workers)},
         Gram::threads, Gram::shared_bytes, stream, arguments);
}

template <class Row>
void launch_stored(const TensorShape& shape, const TensorGramArguments& arguments, Stream stream) {
  if (shape.size == 64) return launch_shape<Row, TensorGram<1, 64, 4, 1>>(arguments, stream);
  if (shape.warps == 8) return launch_shape<Row, TensorGram<1, 128, 8, 2>>(arguments, stream);
  if (shape.sides == 1) return launch_shape<Row, TensorGram<1, 128, 4, 1>>(arguments, stream);
  launch_shape<Row, TensorGram<1, 128, 4, 2>>(arguments, stream);
}

void launch_split(const TensorShape& shape, const TensorGramArguments& arguments, Stream stream) {
  if (shape.size == 64) return launch_shape<BFloat16, TensorGram<3, 64, 4, 1>>(arguments, stream);
  if (shape.sides == 1) return launch_shape<BFloat16, TensorGram<3, 128, 8, 1>>(arguments, stream);
  launch_shape<BFloat16, TensorGram<3, 128, 8, 2>>(arguments, stream);
}

void launch_tensor_gram(const TensorShape& shape, const TensorGramArguments& arguments, Stream stream) {
  if (shape.method == GramMethod::tensor_split) return launch_split(shape, arguments, stream);
  if (shape.method == GramMethod::tensor_bfloat16) return launch_stored<BFloat16>(shape, arguments, stream);
  launch_stored<Float16>(shape, arguments, stream);
}

}  // namespace

bool can_be_copied(const MatrixView& rows) {
  const bool unit_stride = rows.column_stride == 1 || rows.columns == 1;
  return unit_stride && rows.row_stride % chunk_columns == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

TensorShape tensor_shape(GramMethod method, const MatrixView& rows, const DeviceLimits& device) {
  if (can_use_warpgroups(method, rows, device)) return warpgroup_shape(method, rows.columns);
  const std::int64_t columns = rows.columns;
  TensorShape shape{method, tile_size(method, columns), 4, columns <= 128 ? 1 : 2, 2};
  if (shape.size == 64) return shape;
  using Wide = TensorGram<1, 128, 4, 2>;
  if (method != GramMethod::tensor_split && device.shared_memory_per_block >= Wide::shared_bytes) {
    // A block takes a KiB beside what it asks for.
    shape.blocks = device.shared_memory_per_multiprocessor >= 2 * (Wide::shared_bytes + 1024) ? 2 : 1;
    return shape;
  }
  shape.warps = 8;
  shape.blocks = 1;
  return shape;
}

int sum_rows(const TensorShape& shape) { return shape.warps * warp_lanes * chunk_columns / shape.size; }

void add_tensor_gram(const TensorShape& shape, const Planes& planes, std::int64_t workers, double* slabs,
                     const TensorFindings& findings, Stream stream) {
  // Within a launch, rows and columns are counted with 32 bits.
  constexpr std::int64_t most_rows = std::int64_t{1} << 30;
  for (std::int64_t first = 0; first < planes.rows; first += most_rows) {
    Planes part = planes;
    part.data += first * planes.row_stride;
    part.rows = planes.rows - first < most_rows ? planes.rows - first : most_rows;
    if (shape.is_of_warpgroups) {
      add_warpgroup_gram(shape, part, first, workers, slabs, findings, stream);
      continue;
    }
    const WorkPlan plan = plan_for(shape.method, part.rows, part.columns, workers);
    launch_tensor_gram(shape, {part, plan, slabs, findings, first}, stream);
  }
}

}  // namespace nrc_fast::cuda
