// What goes before a Gram kernel: norms and counts of rows, sums over columns, and planes of 16-bit numbers.
#pragma once

#include "cuda/gram/row_findings.h"
#include "cuda/gram/slabs.h"
#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {

struct RowNormTask {
  MatrixView features;
  MatrixView targets;                  // may have no columns
  const double* norm_shift = nullptr;  // of the rows whose norms are wanted
  double* inverse_norms = nullptr;     // 1 / ||h - norm_shift||, 0 for a row that is 0; null if they are not wanted
  RowCounts* counts = nullptr;
  // For the findings, null where they are not wanted.
  const double* shift = nullptr;
  const double* target_shift = nullptr;
  Findings* findings = nullptr;
  RowMasks masks{};              // null, or in place of the counts: rows whose targets are not finite are marked there
  double* kept = nullptr;        // null, or for each row 1, and 0 where it is not finite; inverse norms are 0 there too
  const double* only = nullptr;  // rows where it is 0 are not looked at
};

// Adds to the counts. A row counts as zero by its features as they are stored, and as not finite also by its targets.
// Of a norm below 2^-1022 the inverse is infinite.
void row_norms(const RowNormTask& task, Stream stream);

// The same, and with it the slabs of all moments of at most 64 columns in float64, where the device has tensor cores
// for that and there are few targets. The norms are of rows that are shifted by the shift or by nothing.
bool can_form_moments(const MatrixView& features, const MatrixView& targets);
std::int64_t moment_blocks(const MatrixView& features, const MatrixView& targets);
void form_moments(const RowNormTask& task, std::int64_t workers, double* slabs, Stream stream);

// In float64, of rows of 65 to 128 columns: the slabs of their Gram matrix and, in the same read, what is found of
// them, where the device has tensor cores for that. The sums are for each worker those over its rows of the columns
// and, if there are targets, of their products with them, as `partial` of ColumnSumTask.
struct WideMomentTask {
  MatrixView features;
  MatrixView targets;  // few, or without columns
  const double* shift = nullptr;
  const double* target_shift = nullptr;
  TensorFindings findings;
  // Not null: rows that it marks are left out. Where the counts have none that is not finite, nothing is done, and all
  // sums stay as they were.
  const std::uint32_t* left_out = nullptr;
  const RowCounts* counts = nullptr;
};
inline bool is_panel(const MatrixView& features) { return features.columns <= wide_columns; }
std::int64_t wide_moment_blocks(const WideMomentTask& task);
void form_wide_moments(const WideMomentTask& task, std::int64_t workers, double* slabs, Stream stream);
// The same of any number of columns from 65 on, in panels of 128. The sums are for each slab those of a panel's
// columns, where it is a panel with itself that the slab is of.
std::int64_t panel_moment_blocks(const WideMomentTask& task);
void form_panel_moments(const WideMomentTask& task, std::int64_t workers, double* slabs, Stream stream);
// Adds these up, as ColumnSumTask has them.
void add_panel_sums(const WideMomentTask& task, std::int64_t workers, const RowCounts* guard, double* column_sums,
                    double* cross, Stream stream);

// Before `row_norms` and after it: sets the findings up, and adds them to the totals. A batch is refused where a row is
// not finite, unless those are skipped, and where squares leave the range of float64.
void begin_findings(Findings* findings, Stream stream);
void settle_findings(Findings* findings, DeviceTotals* totals, std::int64_t rows, bool skips, Stream stream);

// Parts of the rows whose sums are formed apart.
std::int64_t column_sum_parts(std::int64_t rows, std::int64_t columns, std::int64_t multiprocessors);
// column_sums (null or d) += sum (h - s), cross (n x d) += sum (y - t)(h - s)^T, unless a row is not finite.
// `partial` holds column_sum_parts x (1 + n) x d numbers.
struct ColumnSumTask {
  MatrixView features;
  const double* shift;
  MatrixView targets;
  const double* target_shift;
  double* column_sums;
  double* cross;
  double* partial;
  std::int64_t parts;
  const RowCounts* counts;
  const double* kept = nullptr;  // rows where it is 0 are left out
};
void add_column_sums(const ColumnSumTask& task, Stream stream);
// Where the parts are there already.
void add_parts_of_column_sums(const ColumnSumTask& task, Stream stream);

// Planes whose sum is (h - shift) * scale, rounded to 8 bits for each of them, or copies of the 16-bit rows.
enum class PlaneContent : int { split = 0, rounded = 1, copied = 2 };
// What a read for planes finds of the rows: nothing; their sums, counts and magnitude; the same, and rows that are not
// finite are left out; or norms, to which rows are scaled. Rows of scale 0 are left out of everything.
enum class RowUse : int { plain = 0, looked_at = 1, sifted = 2, normed = 3 };
// Rows whose scale depends on all of their numbers must fit into one block.
constexpr std::int64_t whole_plane_columns = 4096;
inline bool can_be_sifted_or_normed(const MatrixView& rows) { return rows.columns <= whole_plane_columns; }

// Null where it is not wanted.
struct PlaneFindings {
  double* sums = nullptr;  // for each worker those of its rows over (h - shift), added to
  RowMasks masks{};
  std::int64_t* below = nullptr;  // as in Findings
  double* kept = nullptr;         // of rows that are sifted: 1, and 0 where a row is left out
};

struct PlaneTask {
  ScaledRows rows;  // without a common scale
  PlaneContent content;
  RowUse use;
  std::int64_t workers = 1;
  PlaneFindings findings{};
  // Products that are formed of rows that are looked at: for each worker sums over columns, which then go there, and
  // products, as `partial` of ColumnSumTask, added to. Without columns: none.
  RowTargets products{};
  std::uint16_t* planes = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t plane_stride = 0;
};

int plane_count(GramMethod method);
std::int64_t plane_row_stride(const MatrixView& rows);
// Rows whose planes are in memory at once, as many as are wanted or fill it well: whole words of the masks and whole
// folds, and the same whatever the number of rows.
std::int64_t plane_rows(const MatrixView& rows, GramMethod method, std::int64_t wanted);
// Whether the sums of products have room in the shared memory of a block.
bool can_form_plane_products(const MatrixView& rows, const MatrixView& targets, RowUse use, const DeviceLimits& device);
// Of so many rows at once.
std::int64_t plane_workers(const PlaneTask& task, std::int64_t rows, std::int64_t multiprocessors);
void write_planes(const PlaneTask& task, Stream stream);

}  // namespace nrc_fast::cuda
