// The Gram kernels of the tensor cores, as the pass launches them.
#pragma once

#include "cuda/gram/row_findings.h"
#include "cuda/gram/slabs.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// Which kernel is launched, and how many of its blocks run at once on a multiprocessor.
struct TensorShape {
  GramMethod method;
  int size;   // of a tile
  int warps;  // of a block
  int sides;  // of a tile, that differ somewhere
  int blocks;
  bool is_of_warpgroups = false;  // see warpgroup_gram.h
};
TensorShape tensor_shape(GramMethod method, const MatrixView& rows, const DeviceLimits& device);

// Whether 16-bit rows can be copied in pieces of 16 bytes from where they lie; others become planes first.
bool can_be_copied(const MatrixView& rows);

// 16-bit rows that a tensor-core kernel copies in pieces of 16 bytes: the address and the strides are multiples of it.
struct Planes {
  const std::uint16_t* data;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t row_stride;
  std::int64_t plane_stride;
};

// What is found on the way, of rows as they are stored; null sums: it is not wanted, nor is anything else.
struct TensorFindings {
  double* sums = nullptr;         // for each slab, those of the columns of a tile for each of `sum_rows` rows
  RowMasks masks{};               // null, like what follows, where only the sums are wanted
  std::int64_t* below = nullptr;  // as in Findings
};
// Rows of a stage whose sums are added up apart.
int sum_rows(const TensorShape& shape);

// Adds to the slabs.
void add_tensor_gram(const TensorShape& shape, const Planes& planes, std::int64_t workers, double* slabs,
                     const TensorFindings& findings, Stream stream);

// The same of rows that are split on the way, where they lie so that they can be copied: those that are no wider than a
// tile, and wider ones, which are split again for each tile that they are a side of. Beyond so many columns that can
// take longer than it takes to write planes and to read them.
bool can_convert_rows(const MatrixView& rows, GramMethod method, const DeviceLimits& device);
constexpr std::int64_t most_converted_columns = 1024;
bool can_convert_tiles(const MatrixView& rows, GramMethod method, const DeviceLimits& device);
// Targets that lie beside rows: sums over the rows' columns and, for each target, of products with it are added to
// `partial` in place of the findings, as `partial` of ColumnSumTask; null: there are none.
struct RowTargets {
  MatrixView targets;  // few
  int size = 0;        // bytes of one
  const double* shift = nullptr;
  double* partial = nullptr;
};

// Where nothing is said, (h - shift) as it is.
struct ConvertedRows {
  MatrixView rows;
  const double* shift = nullptr;
  // Rows that are no wider than a tile: whether they are scaled to norm 1, or have targets.
  bool has_norm_1 = false;
  RowTargets targets{};
  // Wider ones: what each row is multiplied with, and where the sums of squares of its columns in each tile go, of
  // shifted or of stored numbers, for all rows of a tile behind one another.
  const double* scale = nullptr;
  double* energies = nullptr;
  bool has_shifted_energies = false;
};
constexpr int row_target_parts = 2;  // `partial` of rows that are no wider than a tile has so many for each worker
void add_converted_gram(const TensorShape& shape, const ConvertedRows& rows, std::int64_t workers, double* slabs,
                        const TensorFindings& findings, Stream stream);
// Turns the energies of so many tiles into 1 / norm of each row, in the place of the first tile's.
void find_scales(std::int64_t rows, std::int64_t tiles, double* energies, Stream stream);

// What was found, brought together after the products. Both add, the sums unless the guard counts a row that is not
// finite.
void count_rows(const RowMasks& masks, std::int64_t rows, RowCounts* counts, Stream stream);
// Before that: kept is 0 of the rows that are not finite, and 1 of the others. Rows that are left out are not counted
// as zeros.
void keep_rows(const RowMasks& masks, std::int64_t rows, double* kept, Stream stream);
void add_slab_sums(const TensorShape& shape, std::int64_t columns, std::int64_t workers, const double* sums,
                   const RowCounts* guard, double* column_sums, Stream stream);

}  // namespace nrc_fast::cuda
