// Where the Gram kernels leave their sums, and how those are added up: each worker of the plan has its own slabs of
// float64 numbers, which a last kernel adds in the order of their rows.
#pragma once

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

// Elements of one side of the square tile that a method works on.
int tile_size(GramMethod method, std::int64_t columns);
// Rows that are one block of the plan.
int block_rows(GramMethod method);
// How a method's slabs keep the elements of a tile.
enum class SlabOrder : int { row_major = 0, fragments = 1 };
SlabOrder slab_order(GramMethod method);

inline WorkPlan plan_for(GramMethod method, std::int64_t rows, std::int64_t columns, std::int64_t workers) {
  const std::int64_t tile_rows = ceiling(columns, tile_size(method, columns));
  return {lower_tiles(tile_rows), workers, ceiling(rows, block_rows(method))};
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

template <class Value>
NRC_FAST_DEVICE Value scaled(const ScaledRows& rows, std::int64_t row, Value value) {
  if (rows.common != nullptr) value = static_cast<Value>(static_cast<double>(value) * *rows.common);
  if (rows.scale == nullptr) return value;
  const double scale = rows.scale[row];
  return scale == 0.0 ? Value{0} : static_cast<Value>(static_cast<double>(value) * scale);
}
// Adds to the slabs.
void add_direct_gram(GramMethod method, const ScaledRows& rows, std::int64_t workers, double* slabs, Stream stream);

// gram (columns x columns, lower triangle) += factor (null: 1) times the slabs, unless a row was not finite.
void finalize_gram(GramMethod method, std::int64_t columns, std::int64_t workers, const double* slabs,
                   const RowCounts* counts, const double* factor, double* gram, Stream stream);

}  // namespace nrc_fast::cuda
