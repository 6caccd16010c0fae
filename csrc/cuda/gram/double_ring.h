// The ring of stages in shared memory through which rows come to the float64 tensor cores, as they are stored. Copies
// are asynchronous, of 16 bytes where the rows allow it, and of single elements elsewhere; those of 16 bits, for which
// there are no such copies, then go through registers.
#pragma once

#include "cuda/gram/double_tiles.h"
#include "cuda/gram/slabs.h"

namespace nrc_fast::cuda {

constexpr int ring_threads = double_warps * warp_lanes;
constexpr int ring_stages = 4;
constexpr int step_rows = 4;  // of one product
// So much of a stage keeps two blocks on a multiprocessor, and enough on its way for the bandwidth of the memory.
constexpr int largest_stage = 12800;
constexpr int largest_depth = 64;

enum class CopyKind : int { chunks = 0, elements = 1, elements_of_columns = 2 };

// How rows lie in a stage: lanes of a fragment read 8 columns of 4 rows at once, which lie in different banks.
struct StageLayout {
  int depth;     // rows
  int pitch;     // bytes from one to the next
  int row_tail;  // bytes for each row behind all of them
  int bytes;     // of a stage
};

// What of one side of a stage this thread copies: `count` pieces.
struct SideCopies {
  const char* source;  // of the first of them, in the next stage
  std::int64_t step;   // bytes from one to the next
  std::int64_t stage_step;
  int row;
  int column;
  int row_step;
  int column_step;
  int count;
  int columns;  // that there are; zeros follow
  int target;   // bytes from the beginning of the stage
  int target_step;
};

NRC_FAST_DEVICE int power_of_two_from(int count) {
  int power = 1;
  while (power < count) power *= 2;
  return power;
}

// Copies of `columns` columns of a matrix from a row and a column on, filled up to `padded` ones with zeros, to rows in
// the stage that are `pitch` bytes apart.
NRC_FAST_DEVICE SideCopies side_copies(const MatrixView& rows, int size, CopyKind kind, int depth,
                                       std::int64_t first_row, std::int64_t first_column, int columns, int padded,
                                       int target, int pitch) {
  const int width = kind == CopyKind::chunks ? 16 / size : 1;
  SideCopies side{};
  if (kind == CopyKind::elements_of_columns) {
    side.row = thread_index() % depth;
    side.column = thread_index() / depth;
    side.column_step = ring_threads / depth;
    side.count = side.column < padded ? (padded - side.column + side.column_step - 1) / side.column_step : 0;
  } else {
    const int lanes = power_of_two_from(padded / width);
    side.row = thread_index() / lanes;
    side.column = thread_index() % lanes * width;
    side.row_step = ring_threads / lanes;
    const bool takes_part = side.column < padded && side.row < depth;
    side.count = takes_part ? (depth - side.row + side.row_step - 1) / side.row_step : 0;
  }
  side.source = static_cast<const char*>(rows.data) +
                ((first_row + side.row) * rows.row_stride + (first_column + side.column) * rows.column_stride) * size;
  side.step = (side.row_step * rows.row_stride + side.column_step * rows.column_stride) * size;
  side.stage_step = depth * rows.row_stride * size;
  side.columns = columns;
  side.target = target + side.row * pitch + side.column * size;
  side.target_step = side.row_step * pitch + side.column_step * size;
  return side;
}

// Pieces of 16 bytes, or of one element of 4 or 8.
template <int size, bool are_chunks>
NRC_FAST_DEVICE void copy_pieces(const SideCopies& side, const void* somewhere, int rows_left, char* stage) {
  const char* source = side.source;
  char* target = stage + side.target;
  int row = side.row;
  int left = side.columns - side.column;
  if constexpr (are_chunks) {
    // All of a piece and of the rows is there: nothing is left to be asked.
    if (left * size >= 16 && row + (side.count - 1) * side.row_step < rows_left) {
#pragma unroll 4
      for (int i = 0; i < side.count; ++i) {
        copy_async(target, source);
        source += side.step;
        target += side.target_step;
      }
      return;
    }
  }
  for (int i = 0; i < side.count; ++i) {
    const bool is_valid = row < rows_left && left > 0;
    const void* const from = is_valid ? static_cast<const void*>(source) : somewhere;
    if constexpr (are_chunks) {
      copy_async(target, from, is_valid ? (left * size < 16 ? left * size : 16) : 0);
    } else {
      copy_element_async<size>(target, from, is_valid);
    }
    source += side.step;
    target += side.target_step;
    row += side.row_step;
    left -= side.column_step;
  }
}

// Elements of 16 bits through registers: first all loads of some, then what is done with them.
NRC_FAST_DEVICE void copy_through_registers(const SideCopies& side, const void* somewhere, int rows_left, char* stage) {
  constexpr int at_once = 8;
  for (int first = 0; first < side.count; first += at_once) {
    std::uint16_t values[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      const int piece = first + i;
      const bool is_valid = piece < side.count && side.row + piece * side.row_step < rows_left &&
                            side.column + piece * side.column_step < side.columns;
      const char* const source = side.source + piece * side.step;
      values[i] = *static_cast<const std::uint16_t*>(is_valid ? static_cast<const void*>(source) : somewhere);
      if (!is_valid) values[i] = 0;
    }
    char* const target = stage + side.target + first * side.target_step;
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      if (first + i >= side.count) break;
      *static_cast<std::uint16_t*>(static_cast<void*>(target + i * side.target_step)) = values[i];
    }
  }
}

// Copies the next stage; `somewhere` is an address that may be read.
template <int size>
NRC_FAST_DEVICE void copy_side(SideCopies& side, CopyKind kind, const void* somewhere, int rows_left, char* stage) {
  if (kind == CopyKind::chunks) {
    copy_pieces<size, true>(side, somewhere, rows_left, stage);
  } else if constexpr (size >= 4) {
    copy_pieces<size, false>(side, somewhere, rows_left, stage);
  } else {
    copy_through_registers(side, somewhere, rows_left, stage);
  }
  side.source += side.stage_step;
}

// Targets lie as they are stored behind the rows of a stage.
NRC_FAST_DEVICE void copy_targets(SideCopies& side, DType dtype, const void* somewhere, int rows_left, char* stage) {
  if (dtype == DType::float64) {
    copy_side<8>(side, CopyKind::elements, somewhere, rows_left, stage);
  } else if (dtype == DType::float32) {
    copy_side<4>(side, CopyKind::elements, somewhere, rows_left, stage);
  } else {
    copy_side<2>(side, CopyKind::elements, somewhere, rows_left, stage);
  }
}

inline CopyKind copy_kind(const MatrixView& rows) {
  const bool unit_stride = rows.column_stride == 1 || rows.columns == 1;
  const bool is_aligned =
      rows.row_stride * size_of(rows.dtype) % 16 == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
  if (unit_stride && is_aligned) return CopyKind::chunks;
  const bool are_columns_dense = rows.row_stride == 1 || rows.row_stride == -1;
  return are_columns_dense && !unit_stride ? CopyKind::elements_of_columns : CopyKind::elements;
}

inline StageLayout stage_layout(DType dtype, std::int64_t columns, int row_tail) {
  const std::int64_t width = columns > wide_columns ? wide_columns + narrow_columns : round_up(columns, strip);
  const auto pitch = static_cast<int>(round_up(width * size_of(dtype), 128) + 32);
  int depth = largest_depth;
  while (depth > 2 * step_rows && depth * (pitch + row_tail) > largest_stage) depth /= 2;
  return {depth, pitch, row_tail, depth * (pitch + row_tail)};
}

}  // namespace nrc_fast::cuda
