// Where the Gram kernels leave their sums, and how those are added up: each worker of the plan has its own slabs of
// float64 numbers, which a last kernel adds in the order of their rows.
#pragma once

#include "cuda/gram/double_tiles.h"
#include "cuda/gram/work_plan.h"
#include "cuda/machine/fragments.h"
#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

// Which products a Gram kernel forms.
enum class GramMethod : int {
  tensor_bfloat16 = 0,  // one product of 16-bit rows
  tensor_float16 = 1,
  tensor_split = 2,  // rows as sums of three bfloat16 numbers, six products
  float32 = 3,       // SIMT, folded into float64
  float64 = 4,       // SIMT
  tensor_float64 = 5,
};

// Elements of one side of the square tile that a method works on; of float64 on tensor cores see double_tiles.h.
int tile_size(GramMethod method, std::int64_t columns);
std::int64_t tile_count(GramMethod method, std::int64_t columns);
// Rows that are one block of the plan.
constexpr int direct_block_rows = 16;
int block_rows(GramMethod method);
// How a method's slabs keep the elements of a tile, and how many numbers these are.
enum class SlabOrder : int { row_major = 0, fragments = 1, shares = 2, moments = 3 };
SlabOrder slab_order(GramMethod method);
std::int64_t slab_values(GramMethod method, std::int64_t columns);
// Methods that read the rows as they are, in one launch, which writes the slabs; others add to what is in them.
inline bool is_direct(GramMethod method) { return slab_order(method) != SlabOrder::fragments; }

inline WorkPlan plan_for(GramMethod method, std::int64_t rows, std::int64_t columns, std::int64_t workers) {
  return {tile_count(method, columns), workers, ceiling(rows, block_rows(method))};
}

// Rows that are added in float64 one after the other where there are few: what bounds of the rounding count with.
constexpr std::int64_t chained_rows = 64;
// Rows of a tile that a worker has at least, or its slab would be more to write and to read than they are. Float64 sums
// have no more than the chained ones for each of their warps that take turns; others are folded within more.
inline std::int64_t least_rows_of_worker(GramMethod method, std::int64_t columns) {
  if (method == GramMethod::tensor_float64 && columns <= narrow_columns) return chained_rows * double_warps;
  return method == GramMethod::tensor_float64 || method == GramMethod::float64 ? chained_rows : 256;
}

// Workers of a Gram pass on a device that runs so many blocks at once.
inline std::int64_t workers_for(std::int64_t tiles, std::int64_t rows, std::int64_t least_rows, std::int64_t at_once) {
  const std::int64_t filled = tiles * ceiling(rows, least_rows);
  return filled < at_once ? filled : at_once;
}

// x = (h - shift) * scale * common, where not null; scale is of the row, and x = 0 where it is 0, whatever is in the
// row.
struct ScaledRows {
  MatrixView rows;
  const double* shift;
  const double* scale;
  const double* common = nullptr;
  const RowCounts* guard = nullptr;  // not null: sums are formed only where it counts no row that is not finite
};

// These write every slab that has rows.
void add_direct_gram(GramMethod method, const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream);
void add_double_tensor_gram(const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream);

// Blocks of their kernels that run at once on a multiprocessor of the current device.
std::int64_t direct_gram_blocks(GramMethod method, DType dtype);
std::int64_t double_tensor_blocks(DType dtype, std::int64_t columns);

// gram (columns x columns, lower triangle) += factor (null: 1) times the slabs, unless a row was not finite. Of a
// direct method slabs without rows are not read.
void finalize_gram(GramMethod method, std::int64_t rows, std::int64_t columns, std::int64_t workers,
                   const double* slabs, const RowCounts* counts, const double* factor, double* gram, Stream stream);

// Sums of one read of at most 64 columns, as GramFields has them; all but the Gram matrix may be null.
struct GramMoments {
  double* gram;
  double* column_sums;
  double* cross;
  double* target_gram;
  double* target_sums;
  std::int64_t columns;
  std::int64_t targets;
};
void finalize_moments(std::int64_t rows, std::int64_t workers, const double* slabs, const RowCounts* counts,
                      const GramMoments& sums, Stream stream);

}  // namespace nrc_fast::cuda
