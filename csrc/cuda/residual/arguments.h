// What the kernels of the residual are given, and the sizes that they and their launches share.
#pragma once

#include "common/arithmetic.h"
#include "cuda/machine/fragments.h"
#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

constexpr int residual_threads = 128;
constexpr int residual_warps = residual_threads / warp_lanes;
// Of a tile: of tensor cores, and without them.
constexpr int tensor_rows = 128;
constexpr int simt_rows = 64;
// Vectors that are projected on at once, at most.
constexpr int group_vectors = 32;
// Columns of the prepared basis, of which nothing is read beyond the last, are rounded up to whole steps.
constexpr int step_columns = 32;

// How tensor cores read the basis: as three bfloat16 numbers or two float16 numbers whose sum a number is, or as it is.
enum class FragmentKind : int { none = 0, bfloat16 = 1, float16 = 2, float64 = 3 };

// Where a lane of tensor cores finds what it multiplies. Of every step of columns there is one record for each group of
// vectors: the fragments of eight vectors at a time and, behind them, the shift. A fragment holds 16 bytes for each
// lane: of vector lane / 4, and of the columns that the lane has of its rows, which it reads 16 bytes at a time.
struct FragmentLayout {
  FragmentKind kind = FragmentKind::none;
  std::int64_t groups = 0;
  int wide = 0;  // eights of vectors in a group
  std::int64_t steps = 0;
  int lane_columns = 0;      // of a lane in a step; four lanes share a row
  int piece_columns = 0;     // that are side by side
  int fragment_columns = 0;  // of a lane that lie together in a fragment
  bool has_shift = false;

  NRC_FAST_BOTH int fragments() const {
    switch (kind) {
      case FragmentKind::bfloat16:
        return 3;
      case FragmentKind::float16:
        return 2;
      default:
        return lane_columns / 2;
    }
  }
  // Float32 shifts are two numbers, high and low.
  NRC_FAST_BOTH std::int64_t shift_bytes() const { return has_shift ? lane_columns * 4 * 8 : 0; }
  NRC_FAST_BOTH std::int64_t record_bytes() const { return wide * fragments() * warp_lanes * 16 + shift_bytes(); }
  NRC_FAST_BOTH std::int64_t bytes() const { return groups * steps * record_bytes(); }
  // In its step, of one of the columns of lane % 4.
  NRC_FAST_BOTH int column(int lane, int element) const {
    return (element / piece_columns * 4 + lane % 4) * piece_columns + element % piece_columns;
  }
};

// What tensor cores project.
struct ProjectedRows {
  MatrixView features;
  bool are_copyable;  // 16 bytes at a time
  FragmentLayout layout;
  const char* records;
  const double* inverse_scales;  // of the vectors, where fragments are float16
};

// Rows that can be copied 16 bytes at a time.
inline bool are_copyable(const MatrixView& rows) {
  return rows.column_stride == 1 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0 &&
         (rows.rows == 1 || rows.row_stride * size_of(rows.dtype) % 16 == 0);
}

struct ResidualArguments {
  ProjectedRows rows;
  const void* basis;  // in the type that is computed with: group, column, vector of the group
  std::int64_t vectors;
  const double* shift;
  double* row_residuals;
  double* row_energies;
  RowCounts* counts;
  CompensatedSum* partial;  // for each block: squares of coefficients, raw and unit, residuals, and expanded energies
  void* coefficients;       // for each block: vectors, rounded up to groups, x rows of a tile
  double least_expanded;
};

// Raw and unit sums: of squares for each vector, of residuals, and of energies of rows in expanded form.
NRC_FAST_BOTH std::int64_t partial_sums(std::int64_t vectors) { return 2 * vectors + 4; }

}  // namespace nrc_fast::cuda
