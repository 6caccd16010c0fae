// Gram matrices of rows of which everything else is known or not wanted.
#include "cuda/gram/gram_pass.h"

namespace nrc_fast::cuda {

bool GramPass::is_converted(GramMethod method) const {
  return !request_.skips_nonfinite && request_.rows_at_once == 0 &&
         can_convert_rows(request_.features, method, device_);
}

bool GramPass::is_converted_by_tile(GramMethod method) const {
  return !request_.skips_nonfinite && request_.rows_at_once == 0 &&
         can_convert_tiles(request_.features, method, device_);
}

bool GramPass::finds_norms(const double* unit_shift) const {
  const GramMethod method = unit_method(unit_shift);
  return is_converted(method) || (!is_direct(method) && can_be_sifted_or_normed(request_.features));
}

void GramPass::add_unit_gram(const double* unit_shift) {
  const Workspace before = workspace_;
  const MatrixView& rows = request_.features;
  GramWork work = take_slabs(GramMethod::tensor_split, rows);
  most_used_ = std::max(most_used_, workspace_.used());
  workspace_ = before;
  if (!runs_) return;
  const TensorShape shape = tensor_shape(work.method, rows, device_);
  ConvertedRows converted{rows, unit_shift};
  converted.has_norm_1 = energies_ == nullptr;
  converted.scale = energies_;
  if (energies_ != nullptr) find_scales(rows.rows, energy_tiles(), energies_, stream_);
  add_converted_gram(shape, converted, work.workers, work.values, {}, stream_);
  finalize(work, guard_, nullptr, request_.unit_gram);
}

GramWork GramPass::take_slabs(GramMethod method, const MatrixView& rows) {
  GramWork work(method, rows, device_);
  work.values = workspace_.take<double>(work.slab_values);
  if (runs_ && !is_direct(method)) fill_zero(work.values, work.slab_values * 8, stream_);
  return work;
}

void GramPass::finalize(const GramWork& work, const RowCounts* guard, const double* factor, double* gram) {
  finalize_gram(work.method, work.rows.rows, work.rows.columns, work.workers, work.values, guard, factor, gram,
                stream_);
}

void GramPass::add_gram(ScaledRows scaled, Precision precision, double* gram) {
  if (gram == nullptr || scaled.rows.columns == 0) return;
  const Workspace before = workspace_;
  const MatrixView& rows = scaled.rows;
  const bool is_scaled = gram == request_.unit_gram || has_totals();
  const GramChoice choice = choose_gram(rows, is_scaled, scaled.shift != nullptr, precision, device_.capability);
  const bool is_float64 = choice.method == GramMethod::float64 || choice.method == GramMethod::tensor_float64;
  // Unit rows are in range anyway.
  const bool is_common = has_totals() && !is_float64 && gram == request_.gram;
  if (is_common && runs_) scaled.common = &findings_->scale;
  GramWork work = take_slabs(choice.method, rows);
  if (!is_direct(choice.method)) {
    const bool is_normed = gram == request_.unit_gram && can_be_sifted_or_normed(rows);
    add_by_planes(plane_task(scaled, choice, is_normed ? RowUse::normed : RowUse::plain, {}), work, {});
  } else if (runs_ && choice.method == GramMethod::tensor_float64) {
    add_double_tensor_gram(scaled, work.workers, work.values, stream_);
  } else if (runs_) {
    add_direct_gram(choice.method, scaled, work.workers, work.values, stream_);
  }
  const double* const factor = is_common && runs_ ? &findings_->inverse_square : nullptr;
  if (runs_) finalize(work, guard_, factor, gram);
  most_used_ = std::max(most_used_, workspace_.used());
  workspace_ = before;
}

PlaneTask GramPass::plane_task(const ScaledRows& scaled, const GramChoice& choice, RowUse use,
                               const MatrixView& targets) const {
  const MatrixView& rows = scaled.rows;
  const bool is_split = choice.method == GramMethod::tensor_split;
  const PlaneContent content =
      choice.is_as_stored ? PlaneContent::copied : (is_split ? PlaneContent::split : PlaneContent::rounded);
  MatrixView at_once = rows;
  at_once.rows = plane_rows(rows, choice.method, request_.rows_at_once);
  PlaneTask task{scaled, content, use};
  task.products.targets = targets;
  task.workers = plane_workers(task, at_once.rows, device_.multiprocessors);
  task.row_stride = plane_row_stride(rows);
  task.plane_stride = at_once.rows * task.row_stride;
  return task;
}

void GramPass::add_by_planes(const PlaneTask& task, const GramWork& work, TensorFindings findings) {
  const MatrixView& rows = task.rows.rows;
  const TensorShape shape = tensor_shape(work.method, rows, device_);
  PlaneTask part = task;
  part.planes = workspace_.take<std::uint16_t>(task.plane_stride * plane_count(work.method));
  most_used_ = std::max(most_used_, workspace_.used());
  if (!runs_) return;
  const std::int64_t at_once = task.plane_stride / task.row_stride;
  for (std::int64_t first = 0; first < rows.rows; first += at_once) {
    const std::int64_t count = rows.rows - first < at_once ? rows.rows - first : at_once;
    part.rows.rows = part_of(rows, first, count);
    write_planes(part, stream_);
    add_tensor_gram(shape, {part.planes, count, rows.columns, task.row_stride, task.plane_stride}, work.workers,
                    work.values, findings, stream_);
    const auto skip = [count](auto* place, std::int64_t rows_of_one) {
      return place == nullptr ? nullptr : place + count / rows_of_one;
    };
    const RowTargets& products = task.products;
    if (products.targets.columns > 0) {
      part.products.targets = part_of(products.targets, first + count, rows.rows - first - count);
    }
    part.rows.scale = skip(part.rows.scale, 1);
    part.findings.kept = skip(part.findings.kept, 1);
    for (RowMasks* masks : {&part.findings.masks, &findings.masks}) {
      *masks = {skip(masks->filled, mask_rows), skip(masks->bad, mask_rows)};
    }
  }
}

}  // namespace nrc_fast::cuda
