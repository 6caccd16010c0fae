// Gram of rows that are no wider than a tile, in one kernel and one read: what is to be known of them and the products
// with few targets come with it.
#include "cuda/gram/row_products.h"

namespace nrc_fast::cuda {
namespace {

template <class Gram>
NRC_FAST_GLOBAL(Gram::threads, 1)
gram_rows_kernel(RowGramArguments arguments) {
  if constexpr (!runs_largest_blocks) {
    fail();
    return;
  }
  const RowMemory<Gram> memory;
  // One tile: one segment for each worker.
  const TilePosition tile{0, 0};
  Segment segment{};
  if (!find_segment(arguments.plan, block_index(), 0, segment)) return;
  const int count = static_cast<int>(segment.last_block - segment.first_block);
  if (count == 0) return;
  memory.load_shift(arguments, tile);
  synchronize_block();
  const int first_sample = static_cast<int>(segment.first_block) * Gram::stage_rows;
  RowCopies<Gram> copies(arguments, tile, first_sample, count, memory);
  const ConvertedRows& of = arguments.of;
  StageColumns<Gram> looked(of.rows, of.targets, first_sample, memory.shift, memory.ring, memory.targets);
  RowConversion<Gram> conversion(arguments, memory.shift);
  RowProducts<Gram> products(memory);
  int row = copies.row();
  const auto convert_stage = [&](char* planes) {
    typename Gram::Row stored[chunk_columns];
    copies.wait();
    copies.read(0, stored);
    copies.advance();
    conversion.convert(stored, row, planes);
  };
  convert_stage(memory.stage(0));
  const auto work_beside = [&](int b) {
    if constexpr (Gram::has_targets) looked.see();
    row += Gram::stage_rows;
    if (b + 1 < count) convert_stage(memory.stage(b + 1));
  };
  products.add(count, true, work_beside, [&](FoldedSums<Gram>& sums) {
    add_to_slab(sums, arguments.slabs + segment.slab * (Gram::size * Gram::size));
    if (!Gram::has_targets && arguments.findings.sums != nullptr) {
      conversion.add_to(arguments.findings.sums + segment.slab * (Gram::row_step * Gram::size));
    }
  });
  wait_for_copies<0>();
  if constexpr (Gram::has_targets) looked.add_to(of.targets.partial);
  if (arguments.findings.below != nullptr) conversion.keep_largest(arguments.findings.below);
}

template <class Row, int size, bool has_targets>
void launch_rows(const RowGramArguments& arguments, Stream stream) {
  using Gram = RowGram<Row, size, 1, has_targets>;
  launch(gram_rows_kernel<Gram>, "gram_rows", {static_cast<unsigned>(arguments.plan.workers)}, Gram::threads,
         Gram::shared_bytes, stream, arguments);
}

template <class Row>
void launch_sizes(int size, const RowGramArguments& arguments, Stream stream) {
  const bool has_targets = arguments.of.targets.partial != nullptr;
  if (size == 64) {
    return has_targets ? launch_rows<Row, 64, true>(arguments, stream) : launch_rows<Row, 64, false>(arguments, stream);
  }
  has_targets ? launch_rows<Row, 128, true>(arguments, stream) : launch_rows<Row, 128, false>(arguments, stream);
}

bool can_be_converted(const MatrixView& rows, GramMethod method) {
  const bool unit_stride = rows.column_stride == 1 || rows.columns == 1;
  return method == GramMethod::tensor_split && unit_stride && rows.row_stride * size_of(rows.dtype) % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

}  // namespace

bool can_convert_rows(const MatrixView& rows, GramMethod method, const DeviceLimits& device) {
  return can_be_converted(rows, method) && rows.columns <= 128 &&
         device.shared_memory_per_block >= RowGram<BFloat16, 128, 1, true>::shared_bytes;
}

bool can_convert_tiles(const MatrixView& rows, GramMethod method, const DeviceLimits& device) {
  return can_be_converted(rows, method) && rows.columns > 128 && rows.columns <= most_converted_columns &&
         device.shared_memory_per_block >= RowGram<float, 128, 2, false>::shared_bytes;
}

void add_converted_gram(const TensorShape& shape, const ConvertedRows& rows, std::int64_t workers, double* slabs,
                        const TensorFindings& findings, Stream stream) {
  // Within a launch, rows are counted with 32 bits.
  constexpr std::int64_t most_rows = std::int64_t{1} << 30;
  const std::int64_t count = rows.rows.rows;
  for (std::int64_t first = 0; first < count; first += most_rows) {
    ConvertedRows part = rows;
    part.rows = part_of(rows.rows, first, count - first < most_rows ? count - first : most_rows);
    if (rows.targets.partial != nullptr) part.targets.targets = part_of(rows.targets.targets, first, part.rows.rows);
    if (rows.scale != nullptr) part.scale += first;
    if (rows.energies != nullptr) part.energies += first;
    const WorkPlan plan = plan_for(shape.method, part.rows.rows, part.rows.columns, workers);
    const RowGramArguments arguments{part, plan, slabs, findings, first, count};
    if (shape.sides == 2) {
      launch_row_tiles(arguments, stream);
    } else if (part.rows.dtype == DType::float32) {
      launch_sizes<float>(shape.size, arguments, stream);
    } else if (part.rows.dtype == DType::float16) {
      launch_sizes<Float16>(shape.size, arguments, stream);
    } else {
      launch_sizes<BFloat16>(shape.size, arguments, stream);
    }
  }
}

}  // namespace nrc_fast::cuda
