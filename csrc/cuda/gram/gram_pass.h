// Which kernels a Gram pass launches, on which part of the workspace: its steps, which several files have.
#pragma once

#include <algorithm>

#include "cuda/gram/column_products.h"
#include "cuda/gram/gram.h"
#include "cuda/gram/gram_work.h"
#include "cuda/gram/prepare.h"
#include "cuda/machine/workspace.h"

namespace nrc_fast::cuda {

// Without memory nothing is launched: the steps only tell how much of it they take.
class GramPass {
 public:
  GramPass(const GramRequest& request, const DeviceLimits& device, char* workspace, Stream stream)
      : request_(request), device_(device), workspace_(workspace), runs_(workspace != nullptr), stream_(stream) {}

  std::int64_t run();

 private:
  bool has_totals() const { return request_.totals != nullptr; }

  // ---- what is known before anything is added: gram.cu ----

  void begin();
  RowNormTask row_task() const;
  // What is known of the rows before anything is added.
  void inspect(const double* unit_shift, double* inverse_norms);
  void settle();
  void sum_columns(const MatrixView& rows, const double* shift, const MatrixView& targets, double* sums, double* cross);

  // ---- Gram matrices whose read finds sums and counts too: gram_found.cu ----

  // Float64 products of few columns need nothing to be known before, and one read finds all sums.
  bool reads_once() const;
  void add_moments(const double* unit_shift, double* inverse_norms);
  // The Gram matrix with the counts, unless they are known, and sums over columns, of the same read.
  void add_found_gram(const GramChoice& choice, bool is_read_before, bool has_sums);
  // The same of rows whose planes are written first; those that are to be left out are found as these are written,
  // unless they are known.
  void add_gram_of_planes(const GramChoice& choice, bool is_read_before, bool has_sums);
  RowUse use_of_planes(bool is_read_before) const {
    return request_.skips_nonfinite && !is_read_before ? RowUse::sifted : RowUse::looked_at;
  }
  // Whether the read that finds sums over columns forms the products with the targets too.
  bool finds_products(const GramChoice& choice, bool is_wide, bool is_read_before) const;
  // Whether it finds the energies of the rows too, so that they need not be read for the norms of the unit Gram matrix.
  bool finds_energies(const GramChoice& choice, const double* unit_shift) const;
  std::int64_t energy_tiles() const {
    const std::int64_t columns = request_.features.columns;
    return ceiling(columns, tile_size(GramMethod::tensor_split, columns));
  }
  // The same in float64, with the products with targets if there are sums.
  void add_wide_moments(bool is_read_before, bool has_sums);
  // Where rows are to be left out they are read as if none were. What they leave is then formed again, without those
  // that this has found, by kernels that have nothing to do where there are none.
  void form_found_moments(WideMomentTask task, const GramWork& work, std::int64_t words, bool is_read_before);
  // Squares of float16 rows as they are stored stay in the range of float32, others need not.
  void finalize_ranged(const GramWork& work);
  // The same in float64, which the device does only where squares have left the range of float32.
  void add_far_gram();
  RowMasks take_masks(std::int64_t words);
  // For so many parts of the rows.
  RowTargets take_products(std::int64_t parts);
  // Sums over columns and products with targets, from their parts.
  void add_products(const RowTargets& beside, std::int64_t parts);
  // Rows whose targets are not finite are marked, and not kept where that is asked for. Where the exponent of the rows
  // goes.
  std::int64_t* find_targets(const RowMasks& masks, std::int64_t words, double* kept);
  void measure_kept_targets(const RowMasks& masks);
  RowNormTask target_task(const RowMasks& masks) const;
  // Float64 products of rows of more than 64 columns.
  bool forms_wide_moments(const GramChoice& choice) const;

  // ---- Gram matrices alone: gram_alone.cu ----

  GramMethod unit_method(const double* unit_shift) const {
    return choose_gram(request_.features, true, unit_shift != nullptr, request_.precision, device_.capability).method;
  }
  // Rows are converted on their way to the tensor cores. Those that are skipped must be known before.
  bool is_converted(GramMethod method) const;
  // The same of wider rows, in each tile anew. Products with targets take a read of their own, of float32 rows 8 bytes
  // a number in all, where planes that are written with the products take 16 (16-bit rows: 4 and 14).
  bool is_converted_by_tile(GramMethod method) const;
  // Norms need no read before: they are found in that of the unit Gram matrix itself, on the way to the tensor cores or
  // to planes, or in that of the other Gram matrix.
  bool finds_norms(const double* unit_shift) const;
  void add_unit_gram(const double* unit_shift);
  GramWork take_slabs(GramMethod method, const MatrixView& rows);
  void finalize(const GramWork& work, const RowCounts* guard, const double* factor, double* gram);
  void add_gram(ScaledRows scaled, Precision precision, double* gram);
  PlaneTask plane_task(const ScaledRows& scaled, const GramChoice& choice, RowUse use, const MatrixView& targets) const;
  void add_by_planes(const PlaneTask& task, const GramWork& work, TensorFindings findings);

  const GramRequest& request_;
  const DeviceLimits& device_;
  Workspace workspace_;
  bool runs_;
  Stream stream_;
  const RowCounts* guard_ = nullptr;
  RowCounts* counts_ = nullptr;
  Findings* findings_ = nullptr;
  double* kept_ = nullptr;
  double* energies_ = nullptr;  // as of ConvertedRows
  std::int64_t most_used_ = 0;
};

}  // namespace nrc_fast::cuda
