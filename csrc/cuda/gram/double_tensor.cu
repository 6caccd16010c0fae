// Gram of rows of any dtype and layout in float64, by tensor cores. Rows come as they are stored by asynchronous copies
// into a ring of stages, and are converted, shifted and scaled on their way from there into the fragments.
//
// A block of four warps works through its segments of the plan, see double_tiles.h for what each of them does. Copies
// are of 16 bytes where the rows allow it, and of single elements elsewhere; those of 16 bits, for which there are no
// such copies, then go through registers.
#include "cuda/gram/double_tiles.h"
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {
namespace {

constexpr int threads = double_warps * warp_lanes;
constexpr int stages = 4;
constexpr int step_rows = 4;  // of one product
// So much of a stage keeps two blocks on a multiprocessor, and enough on its way for the bandwidth of the memory.
constexpr int largest_stage = 12800;
constexpr int largest_depth = 64;

enum class CopyKind : int { chunks = 0, elements = 1, elements_of_columns = 2 };

// How rows lie in a stage: lanes of a fragment read 8 columns of 4 rows at once, which lie in different banks.
struct StageLayout {
  int depth;  // rows
  int pitch;  // bytes from one to the next
  int bytes;  // of a stage, with the scales of its rows
};

struct DoubleTensorArguments {
  ScaledRows features;
  WorkPlan plan;
  double* slabs;
  StageLayout stage;
  CopyKind copies;
};

// Of one side of a stage, what this thread copies: every `count` copies of `width` columns.
struct SideCopies {
  const char* source;  // of the first of them, in the next stage
  std::int64_t step;   // bytes from one to the next
  std::int64_t stage_step;
  int row;
  int column;
  int row_step;
  int column_step;
  int count;
  int columns;  // that there are; up to whole strips zeros follow
  int target;   // bytes from the beginning of a row in the stage
};

template <class Row>
NRC_FAST_DEVICE int copy_width(CopyKind kind) {
  return kind == CopyKind::chunks ? 16 / static_cast<int>(sizeof(Row)) : 1;
}

NRC_FAST_DEVICE int power_of_two_from(int count) {
  int power = 1;
  while (power < count) power *= 2;
  return power;
}

template <class Row>
NRC_FAST_DEVICE SideCopies side_copies(const DoubleTensorArguments& arguments, std::int64_t first_row,
                                       std::int64_t first_column, int columns, int stage_column) {
  const MatrixView& rows = arguments.features.rows;
  const int depth = arguments.stage.depth;
  const int width = copy_width<Row>(arguments.copies);
  const int across = (columns + strip - 1) / strip * strip / width;
  SideCopies side{};
  if (arguments.copies == CopyKind::elements_of_columns) {
    side.row = thread_index() % depth;
    side.column = thread_index() / depth;
    side.column_step = threads / depth;
    side.count = side.column < across ? (across - side.column + side.column_step - 1) / side.column_step : 0;
  } else {
    const int lanes = power_of_two_from(across);
    side.row = thread_index() / lanes;
    side.column = thread_index() % lanes * width;
    side.row_step = threads / lanes;
    side.count = side.column < across * width && side.row < depth
                     ? (depth - side.row + side.row_step - 1) / side.row_step
                     : 0;
  }
  constexpr auto size = static_cast<std::int64_t>(sizeof(Row));
  side.source = static_cast<const char*>(rows.data) + ((first_row + side.row) * rows.row_stride +
                               (first_column + side.column) * rows.column_stride) * size;
  side.step = (side.row_step * rows.row_stride + side.column_step * rows.column_stride) * size;
  side.stage_step = depth * rows.row_stride * size;
  side.columns = columns;
  side.target = stage_column * static_cast<int>(size);
  return side;
}

// Copies of 16 bytes, or of one element of 4 or 8.
template <class Row, bool are_chunks>
NRC_FAST_DEVICE void copy_pieces(const SideCopies& side, const void* somewhere, int rows_left, char* stage, int pitch) {
  constexpr int size = sizeof(Row);
  const char* source = side.source;
  char* target = stage + side.row * pitch + side.target + side.column * size;
  const int target_step = side.row_step * pitch + side.column_step * size;
  int row = side.row;
  int left = side.columns - side.column;
  for (int i = 0; i < side.count; ++i) {
    const bool is_valid = row < rows_left && left > 0;
    const void* const from = is_valid ? static_cast<const void*>(source) : somewhere;
    if constexpr (are_chunks) {
      copy_async(target, from, is_valid ? (left * size < 16 ? left * size : 16) : 0);
    } else {
      copy_element_async<size>(target, from, is_valid);
    }
    source += side.step;
    target += target_step;
    row += side.row_step;
    left -= side.column_step;
  }
}

// Elements of 16 bits through registers: first all loads of some, then what is done with them.
template <class Row>
NRC_FAST_DEVICE void copy_through_registers(const SideCopies& side, const void* somewhere, int rows_left, char* stage,
                                            int pitch) {
  constexpr int at_once = 8;
  constexpr int size = sizeof(Row);
  for (int first = 0; first < side.count; first += at_once) {
    std::uint16_t values[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const bool is_valid = first + i < side.count && side.row + (first + i) * side.row_step < rows_left &&
                            side.column + (first + i) * side.column_step < side.columns;
      const char* const source = side.source + (first + i) * side.step;
      values[i] = *static_cast<const std::uint16_t*>(is_valid ? static_cast<const void*>(source) : somewhere);
      if (!is_valid) values[i] = 0;
    }
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      if (first + i >= side.count) break;
      const int row = side.row + (first + i) * side.row_step;
      const int column = side.column + (first + i) * side.column_step;
      *static_cast<std::uint16_t*>(static_cast<void*>(stage + row * pitch + side.target + column * size)) = values[i];
    }
  }
}

template <class Row>
NRC_FAST_DEVICE void copy_side(const DoubleTensorArguments& arguments, SideCopies& side, int rows_left, char* stage) {
  const void* const somewhere = arguments.features.rows.data;
  const int pitch = arguments.stage.pitch;
  if (arguments.copies == CopyKind::chunks) {
    copy_pieces<Row, true>(side, somewhere, rows_left, stage, pitch);
  } else if constexpr (sizeof(Row) >= 4) {
    copy_pieces<Row, false>(side, somewhere, rows_left, stage, pitch);
  } else {
    copy_through_registers<Row>(side, somewhere, rows_left, stage, pitch);
  }
  side.source += side.stage_step;
}

// The numbers of one lane in a step: of one row, in every eighth column.
struct LaneRow {
  const char* values;    // of the row, from the lane's first column on
  const double* shifts;  // the same
  double factor;         // 0: the row counts as zeros
  bool is_plain;         // no shift and no scale
};

template <class Row, int count>
NRC_FAST_DEVICE void read_fragments(const LaneRow& row, int column, double* fragments) {
  Row stored[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    stored[i] = *static_cast<const Row*>(
        static_cast<const void*>(row.values + (column + i * 8) * static_cast<int>(sizeof(Row))));
  }
#pragma unroll
  for (int i = 0; i < count; ++i) fragments[i] = as_double(stored[i]);
  if (row.is_plain) return;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const double value = (fragments[i] - row.shifts[column + i * 8]) * row.factor;
    fragments[i] = row.factor == 0.0 ? 0.0 : value;
  }
}

struct DoubleSums {
  double strips[strip_products][4];
  double corners[corner_products][2];

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < strip_products * 4; ++i) strips[i / 4][i % 4] = 0.0;
#pragma unroll
    for (int i = 0; i < corner_products * 2; ++i) corners[i / 2][i % 2] = 0.0;
  }

  template <bool is_triangle>
  NRC_FAST_DEVICE void add_strip(int i, const double* left, const double* right) {
    const int count = is_triangle ? 2 * i + 1 : 4;
#pragma unroll
    for (int j = 0; j < count; ++j) multiply_add(strips[strip_product(is_triangle, i, j)], left[0], left[1], right[j]);
    if constexpr (is_triangle) multiply_add(corners[i], left[1], left[1]);
  }

  // Columns are those on the left; all of 64 are read before the first product.
  template <class Row>
  NRC_FAST_DEVICE void add_triangle(const LaneRow& row, int first, int columns) {
    double values[8];
    if (columns > 3 * strip) {
      read_fragments<Row, 8>(row, first, values);
#pragma unroll
      for (int i = 0; i < 4; ++i) add_strip<true>(i, values + 2 * i, values);
      return;
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i * strip >= columns) break;
      read_fragments<Row, 2>(row, first + i * strip, values + 2 * i);
      add_strip<true>(i, values + 2 * i, values);
    }
  }
  template <class Row>
  NRC_FAST_DEVICE void add_rectangle(const LaneRow& row, int first, int columns, int right_first) {
    double right[4];
    double left[8];
    read_fragments<Row, 4>(row, right_first, right);
    if (columns > 3 * strip) {
      read_fragments<Row, 8>(row, first, left);
#pragma unroll
      for (int i = 0; i < 4; ++i) add_strip<false>(i, left + 2 * i, right);
      return;
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (i * strip >= columns) break;
      read_fragments<Row, 2>(row, first + i * strip, left);
      add_strip<false>(i, left, right);
    }
  }

  // Calls `use(index, sum)` for the sums of the share, in the order of its slab.
  template <class Use>
  NRC_FAST_DEVICE void each(const DoubleShare& share, const Use& use) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i * strip >= share.columns) break;
      if (share.is_triangle) {
#pragma unroll
        for (int j = 0; j < 2 * i + 1; ++j) each_of_strip(strip_product(true, i, j), use);
        use(strip_products * 4 + i * 2, corners[i][0]);
        use(strip_products * 4 + i * 2 + 1, corners[i][1]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) each_of_strip(strip_product(false, i, j), use);
      }
    }
  }
  template <class Use>
  NRC_FAST_DEVICE void each_of_strip(int product, const Use& use) {
#pragma unroll
    for (int r = 0; r < 4; ++r) use(product * 4 + r, strips[product][r]);
  }
};

// Sums of the warps with the same products, added up in the memory that the stages no longer need; the first of them
// has the whole.
NRC_FAST_DEVICE void add_groups(DoubleSums& sums, const DoubleShare& share, char* shared) {
  double* const place = static_cast<double*>(static_cast<void*>(shared)) +
                        share.index * double_sums * warp_lanes + thread_index() % warp_lanes;
  for (int group = share.groups - 1; group > 0; --group) {
    synchronize_block();
    if (share.group == group) sums.each(share, [&](int i, double& sum) { place[i * warp_lanes] = sum; });
    synchronize_block();
    if (share.group == group - 1) sums.each(share, [&](int i, double& sum) { sum += place[i * warp_lanes]; });
  }
}

template <class Row>
NRC_FAST_GLOBAL(threads, 2)
gram_double_tensor_kernel(DoubleTensorArguments arguments) {
  char* const shared = shared_memory();
  const StageLayout& stage = arguments.stage;
  double* const shifts = static_cast<double*>(static_cast<void*>(shared + stages * stage.bytes));
  const ScaledRows& features = arguments.features;
  const int lane = thread_index() % warp_lanes;
  DoubleSums sums;
  Segment segment{};
  for (int ordinal = 0; find_segment(arguments.plan, block_index(), ordinal, segment); ++ordinal) {
    if (segment.first_block == segment.last_block) continue;
    const DoubleItem item = double_item(segment.tile, features.rows.columns);
    const DoubleShare share = double_share(item, thread_index() / warp_lanes);
    const std::int64_t first_row = segment.first_block * direct_block_rows;
    const std::int64_t end = segment.last_block * direct_block_rows;
    std::int64_t rows_to_copy = (end < features.rows.rows ? end : features.rows.rows) - first_row;
    std::int64_t rows_to_add = rows_to_copy;
    SideCopies left = side_copies<Row>(arguments, first_row, item.left, item.columns, 0);
    SideCopies right = side_copies<Row>(arguments, first_row, item.right, item.is_triangle ? 0 : narrow_columns,
                                        wide_columns);
    const double* scales = features.scale == nullptr ? nullptr : features.scale + first_row + thread_index();
    const auto copy_stage = [&](char* target) {
      const int rows = static_cast<int>(rows_to_copy < stage.depth ? rows_to_copy : stage.depth);
      copy_side<Row>(arguments, left, rows, target);
      if (!item.is_triangle) copy_side<Row>(arguments, right, rows, target);
      if (scales != nullptr && thread_index() < stage.depth) {
        const bool is_valid = thread_index() < rows;
        copy_element_async<8>(target + stage.depth * stage.pitch + thread_index() * 8,
                              is_valid ? scales : features.scale, is_valid);
        scales += stage.depth;
      }
      rows_to_copy -= rows;
    };
    for (int c = thread_index(); c < wide_columns + narrow_columns; c += threads) {
      const std::int64_t column = c < wide_columns ? item.left + c : item.right + c - wide_columns;
      shifts[c] = column_shift<double>(features.shift, column, features.rows.columns).high;
    }
    sums.clear();
#pragma unroll
    for (int s = 0; s < stages - 1; ++s) {
      if (rows_to_copy > 0) copy_stage(shared + s * stage.bytes);
      commit_copies();
    }
    int at = 0;  // the stage that is used, and behind it the one that is filled
    for (; rows_to_add > 0; rows_to_add -= stage.depth) {
      wait_for_copies<stages - 2>();
      synchronize_block();  // the stage has arrived for all threads, and all are done with the one before it
      if (rows_to_copy > 0) copy_stage(shared + (at == 0 ? stages - 1 : at - 1) * stage.bytes);
      commit_copies();
      const char* const current = shared + at * stage.bytes;
      const auto* const factors = static_cast<const double*>(static_cast<const void*>(current + stage.depth * stage.pitch));
      for (int k = share.group * step_rows; k < stage.depth; k += share.groups * step_rows) {
        const int row = k + lane % step_rows;
        LaneRow lane_row{current + row * stage.pitch + lane / step_rows * static_cast<int>(sizeof(Row)),
                         shifts + lane / step_rows, row < rows_to_add ? 1.0 : 0.0,
                         features.shift == nullptr && features.scale == nullptr};
        if (features.scale != nullptr) lane_row.factor = factors[row];
        if (share.is_triangle) {
          sums.add_triangle<Row>(lane_row, share.left, share.columns);
        } else {
          sums.add_rectangle<Row>(lane_row, share.left, share.columns, share.right);
        }
      }
      at = at == stages - 1 ? 0 : at + 1;
    }
    wait_for_copies<0>();
    add_groups(sums, share, shared);
    if (share.group == 0) {
      const int lanes = slab_lanes(features.rows.columns);
      double* const slab = arguments.slabs + segment.slab * (double_sums * lanes) + share.index * warp_lanes + lane;
      sums.each(share, [&](int i, double& sum) { slab[i * lanes] = sum; });
    }
    synchronize_block();  // before the next segment fills the stages
  }
}

bool can_copy_chunks(const MatrixView& rows) {
  const bool unit_stride = rows.column_stride == 1 || rows.columns == 1;
  return unit_stride && rows.row_stride * size_of(rows.dtype) % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

CopyKind copy_kind(const MatrixView& rows) {
  if (can_copy_chunks(rows)) return CopyKind::chunks;
  const bool is_column_major = (rows.row_stride == 1 || rows.row_stride == -1) && rows.column_stride != 1;
  return is_column_major ? CopyKind::elements_of_columns : CopyKind::elements;
}

StageLayout stage_layout(DType dtype, std::int64_t columns) {
  const std::int64_t width = columns > wide_columns ? wide_columns + narrow_columns : round_up(columns, strip);
  const auto pitch = static_cast<int>(round_up(width * size_of(dtype), 128) + 32);
  int depth = largest_depth;
  while (depth > 2 * step_rows && depth * (pitch + 8) > largest_stage) depth /= 2;
  return {depth, pitch, depth * (pitch + 8)};
}

std::int64_t shared_bytes(const StageLayout& stage, std::int64_t columns) {
  const std::int64_t shifts = (wide_columns + narrow_columns) * 8;
  // Where several warps have the same products, their sums meet in the memory of the stages.
  const std::int64_t sums = (columns <= narrow_columns ? 1 : 2) * double_sums * warp_lanes * 8;
  const std::int64_t ring = stages * stage.bytes;
  return (ring > sums ? ring : sums) + shifts;
}

}  // namespace

std::int64_t double_tensor_blocks(DType dtype, std::int64_t columns) {
  std::int64_t blocks = 0;
  with_row_type(dtype, [&](auto row) {
    blocks = resident_blocks(gram_double_tensor_kernel<decltype(row)>, "gram_double_tensor", threads,
                             shared_bytes(stage_layout(dtype, columns), columns));
  });
  return blocks;
}

void add_double_tensor_gram(const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream) {
  const MatrixView& view = rows.rows;
  const StageLayout stage = stage_layout(view.dtype, view.columns);
  const DoubleTensorArguments arguments{rows, plan_for(GramMethod::tensor_float64, view.rows, view.columns, workers),
                                        slabs, stage, copy_kind(view)};
  with_row_type(view.dtype, [&](auto row) {
    launch(gram_double_tensor_kernel<decltype(row)>, "gram_double_tensor", {static_cast<unsigned>(workers)}, threads,
           shared_bytes(stage, view.columns), stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
