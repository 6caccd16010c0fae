// Gram of 16-bit rows by the warpgroups of Hopper cards: the plan, the folds and the slabs of tensor.cu, fed by the
// copy engine.
//
// One thread walks through the segments of the block and asks for boxes of 64 rows and 64 columns, as many stages ahead
// as the ring has. Warpgroups multiply them as they lie, both sides of a product with their columns side by side, and
// look at them while the products go on; a stage is given back when the products that read it have ended. Boxes are
// filled up with zeros where there is no row or column.
#include <type_traits>

#include "cuda/gram/warpgroup_gram.h"
#include "cuda/gram/warpgroup_tile.h"

namespace nrc_fast::cuda {
namespace {

struct WarpgroupGramArguments {
  TensorMap map;
  WorkPlan plan;
  double* slabs;
  TensorFindings findings;
  std::int64_t first_row;  // of the planes, in the pass
};

// The segments of this block that have rows, one after the other.
template <class Gram, class Use>
NRC_FAST_DEVICE void for_each_segment(const WorkPlan& plan, const Use& use) {
  Segment segment{};
  for (int ordinal = 0; find_segment(plan, block_index(), ordinal, segment); ++ordinal) {
    const int count = static_cast<int>(segment.last_block - segment.first_block);
    if (count != 0) use(segment.tile, static_cast<int>(segment.first_block), count, ordinal);
  }
}

template <class Gram>
NRC_FAST_DEVICE void fill_stages(const TensorMap* map, const WorkPlan& plan, StageRing<Gram> ring) {
  for_each_segment<Gram>(plan, [&](std::int64_t number, int first_block, int count, int) {
    const TilePosition tile = tile_position(number);
    const int sides = tile.row == tile.column ? 1 : Gram::sides;
    int row = first_block * Gram::stage_rows;
    for (int b = 0; b < count; ++b) {
      ring.wait_until_empty();
      arrive_and_expect(ring.full(), sides * Gram::side_bytes);
#pragma unroll
      for (int side = 0; side < Gram::sides; ++side) {
        if (side == sides) break;
        const int column = static_cast<int>(side == 0 ? tile.row : tile.column) * Gram::size;
#pragma unroll
        for (int box = 0; box < Gram::side_boxes; ++box) {
          char* const place = ring.stage() + side * Gram::side_bytes + box * Gram::box_bytes;
          copy_box(place, map, column + box * box_columns, row, ring.full());
        }
      }
      ring.next();
      row += Gram::stage_rows;
    }
  });
}

// The products of this thread: accumulators of the tensor cores, and what they are folded into.
template <class Gram>
struct WarpgroupSums {
  float products[Gram::sums];
  float folded[Gram::sums];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < Gram::sums; ++i) products[i] = folded[i] = 0.0f;
  }
  NRC_FAST_DEVICE void fold() {
#pragma unroll
    for (int i = 0; i < Gram::sums; ++i) {
      folded[i] += products[i];
      products[i] = 0.0f;
    }
  }
  // `rows16` counts the 16 rows of the tile that are this warp's.
  NRC_FAST_DEVICE void add_to(double* slab, int rows16) {
    double* const first = slab + rows16 * (Gram::size / 8) * 4 * warp_lanes + thread_index() % warp_lanes;
#pragma unroll
    for (int i = 0; i < Gram::sums; ++i) {
      if (i % 8 == 0) keep_order();  // or the values of the slab would all be loaded first, into registers
      first[i * warp_lanes] += static_cast<double>(folded[i]);
      folded[i] = 0.0f;
    }
  }
};

template <class Row, class Gram>
NRC_FAST_DEVICE void multiply_stages(const WarpgroupGramArguments& arguments, StageRing<Gram> ring) {
  constexpr bool is_bfloat16 = std::is_same_v<Row, BFloat16>;
  const int thread = thread_index() - warpgroup_threads;
  const int consumer = thread / warpgroup_threads;
  WarpgroupSums<Gram> sums;
  WarpgroupFindings<Row, Gram> findings(thread);
  sums.clear();
  for_each_segment<Gram>(arguments.plan, [&](std::int64_t number, int first_block, int count, int ordinal) {
    const TilePosition tile = tile_position(number);
    const bool is_diagonal = tile.row == tile.column;
    const bool is_looked_at = is_diagonal && arguments.findings.sums != nullptr;
    const int right_side = is_diagonal ? 0 : Gram::side_bytes;
    for (int first = 0; first < count; first += Gram::fold_blocks) {
      const int end = first + Gram::fold_blocks < count ? first + Gram::fold_blocks : count;
      for (int b = first; b < end; ++b) {
        ring.wait_until_full();
        const std::uint32_t left = shared_address(ring.stage()) + consumer * Gram::box_bytes;
        const std::uint32_t right = shared_address(ring.stage()) + right_side;
        fence_products();
#pragma unroll
        for (int k = 0; k < Gram::stage_rows; k += product_rows) {
          start_product<is_bfloat16>(sums.products, matrix_descriptor(left + k * box_row_bytes, Gram::box_bytes),
                                     matrix_descriptor(right + k * box_row_bytes, Gram::box_bytes));
        }
        commit_products();
        if (is_looked_at) {
          const std::int64_t row = arguments.first_row + (first_block + b) * Gram::stage_rows;
          findings.see(ring.stage(), arguments.findings.masks, row / 32);
        }
        if (b > first) {
          wait_for_products<1>();
          ring.give_back(1);
        }
        ring.next();
      }
      wait_for_products<0>();
      ring.give_back(1);
      sums.fold();
      if (end % Gram::slab_blocks == 0 || end == count) {
        const std::int64_t slab = slab_index(arguments.plan, block_index(), ordinal);
        sums.add_to(arguments.slabs + slab * (Gram::size * Gram::size), thread / warp_lanes);
        if (is_looked_at) findings.add_to(arguments.findings.sums + slab * (Gram::row_step * Gram::size));
      }
    }
  });
  if (arguments.findings.below != nullptr) findings.keep_largest(arguments.findings.below);
}

template <class Row, class Gram, int blocks>
NRC_FAST_GLOBAL(Gram::threads, blocks)
gram_warpgroup_kernel(const NRC_FAST_GRID_CONSTANT WarpgroupGramArguments arguments) {
  if constexpr (!has_warpgroups) {
    fail();
    return;
  }
  StageRing<Gram> ring(shared_memory());
  if (thread_index() == 0) ring.initialize();
  synchronize_block();
  if (thread_index() < warpgroup_threads) {
    if constexpr (Gram::consumers > 1) give_registers<72>();
    if (thread_index() == 0) fill_stages<Gram>(&arguments.map, arguments.plan, ring);
  } else {
    // Two sets of sums take more than an equal share: 216, 216 and 72 are the registers of 384 threads at 168.
    if constexpr (Gram::consumers > 1) take_registers<216>();
    multiply_stages<Row, Gram>(arguments, ring);
  }
}

template <class Row, class Gram>
void launch_shape(const WarpgroupGramArguments& arguments, Stream stream) {
  constexpr int blocks = Gram::size == 64 ? 2 : 1;
  launch(gram_warpgroup_kernel<Row, Gram, blocks>, "gram_warpgroup", {static_cast<unsigned>(arguments.plan.workers)},
         Gram::threads, Gram::shared_bytes, stream, arguments);
}

template <class Row>
void launch_rows(const TensorShape& shape, const WarpgroupGramArguments& arguments, Stream stream) {
  if (shape.size == 64) return launch_shape<Row, WarpgroupGram<64, 1>>(arguments, stream);
  if (shape.sides == 1) return launch_shape<Row, WarpgroupGram<128, 1>>(arguments, stream);
  launch_shape<Row, WarpgroupGram<128, 2>>(arguments, stream);
}

}  // namespace

bool can_use_warpgroups(GramMethod method, const MatrixView& rows, const DeviceLimits& device) {
  const bool is_of_16_bits = method == GramMethod::tensor_bfloat16 || method == GramMethod::tensor_float16;
  // The copy engine takes no rows that lie in one another; what cannot be copied becomes planes, which do not.
  const bool are_apart = !can_be_copied(rows) || rows.row_stride >= rows.columns;
  return device.runs_warpgroups && is_of_16_bits && rows.columns <= most_warpgroup_columns && are_apart;
}

TensorShape warpgroup_shape(GramMethod method, std::int64_t columns) {
  const int size = tile_size(method, columns);
  TensorShape shape{method, size, size / 16, columns <= 128 ? 1 : 2, size == 64 ? 2 : 1};
  shape.is_of_warpgroups = true;
  return shape;
}

void add_warpgroup_gram(const TensorShape& shape, const Planes& planes, std::int64_t first_row, std::int64_t workers,
                        double* slabs, const TensorFindings& findings, Stream stream) {
  using Gram = WarpgroupGram<128, 2>;
  WorkPlan plan = plan_for(shape.method, planes.rows, planes.columns, workers);
  plan.blocks = ceiling(planes.rows, Gram::stage_rows);  // slabs are numbered alike, however rows are cut
  const WarpgroupGramArguments arguments{
      map_boxes(planes.data, planes.rows, planes.columns, planes.row_stride, Gram::stage_rows), plan, slabs, findings,
      first_row};
  if (shape.method == GramMethod::tensor_bfloat16) return launch_rows<BFloat16>(shape, arguments, stream);
  launch_rows<Float16>(shape, arguments, stream);
}

}  // namespace nrc_fast::cuda
