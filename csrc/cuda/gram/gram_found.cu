// Gram matrices whose read finds the sums over columns, the products with targets and what is counted of the rows too.
#include "cuda/gram/gram_pass.h"

namespace nrc_fast::cuda {

bool GramPass::reads_once() const {
  if (request_.gram == nullptr || !can_form_moments(request_.features, request_.targets)) return false;
  const GramChoice choice =
      choose_gram(request_.features, has_totals(), request_.shift != nullptr, request_.precision, device_.capability);
  return choice.method == GramMethod::tensor_float64;
}

void GramPass::add_moments(const double* unit_shift, double* inverse_norms) {
  const Workspace before = workspace_;
  const MatrixView& rows = request_.features;
  const std::int64_t at_once = device_.multiprocessors * moment_blocks(rows, request_.targets);
  // Two pairs of warps take turns at the rows.
  GramWork work(GramMethod::tensor_float64, rows, at_once, 2 * chained_rows, moment_values);
  work.values = workspace_.take<double>(work.slab_values);
  RowNormTask task = row_task();
  task.shift = request_.shift;
  task.target_shift = request_.target_shift;
  task.norm_shift = unit_shift;
  task.inverse_norms = inverse_norms;
  if (runs_) form_moments(task, work.workers, work.values, stream_);
  settle();
  const GramMoments sums{request_.gram,        request_.column_sums, request_.cross,          request_.target_gram,
                         request_.target_sums, rows.columns,         request_.targets.columns};
  if (runs_) finalize_moments(rows.rows, work.workers, work.values, guard_, sums, stream_);
  most_used_ = std::max(most_used_, workspace_.used());
  workspace_ = before;
}

void GramPass::add_found_gram(const GramChoice& choice, bool is_read_before, bool has_sums) {
  const MatrixView& rows = request_.features;
  const Workspace before = workspace_;
  GramWork work = take_slabs(choice.method, rows);
  const TensorShape shape = tensor_shape(choice.method, rows, device_);
  const bool has_products = has_sums && request_.cross != nullptr && request_.targets.columns > 0;
  // Rows as stored are not looked at where there are no sums.
  const bool takes_sums = choice.is_as_stored || (has_sums && !has_products);
  const std::int64_t sum_values = work.slabs * sum_rows(shape) * shape.size;
  const std::int64_t words = is_read_before ? 0 : ceiling(rows.rows, mask_rows);
  TensorFindings findings;
  if (takes_sums) findings.sums = workspace_.take<double>(sum_values);
  findings.masks = take_masks(words);
  const RowTargets beside = has_products ? take_products(row_target_parts * work.workers) : RowTargets{};
  if (runs_ && takes_sums) fill_zero(findings.sums, sum_values * 8, stream_);
  if (!is_read_before) findings.below = find_targets(findings.masks, words, nullptr);
  if (!choice.is_as_stored) {
    ConvertedRows converted{rows, request_.shift};
    converted.targets = beside;
    converted.energies = energies_;
    converted.has_shifted_energies = request_.unit_rows_are_shifted;
    if (runs_) add_converted_gram(shape, converted, work.workers, work.values, findings, stream_);
  } else if (choice.needs_planes) {
    add_by_planes(plane_task({rows, nullptr, nullptr}, choice, RowUse::plain, {}), work, findings);
  } else if (runs_) {
    add_tensor_gram(shape, {static_cast<const std::uint16_t*>(rows.data), rows.rows, rows.columns, rows.row_stride, 0},
                    work.workers, work.values, findings, stream_);
  }
  most_used_ = std::max(most_used_, workspace_.used());
  if (!is_read_before) {
    if (runs_) count_rows(findings.masks, rows.rows, counts_, stream_);
    settle();
  }
  if (has_products) {
    add_products(beside, row_target_parts * work.workers);
  } else if (runs_ && has_sums && request_.column_sums != nullptr) {
    add_slab_sums(shape, rows.columns, work.workers, findings.sums, guard_, request_.column_sums, stream_);
  }
  workspace_ = before;
  finalize_ranged(work);
}

void GramPass::add_gram_of_planes(const GramChoice& choice, bool is_read_before, bool has_sums) {
  const MatrixView& rows = request_.features;
  const Workspace before = workspace_;
  const GramWork work = take_slabs(choice.method, rows);
  const RowUse use = use_of_planes(is_read_before);
  const bool is_sifted = use == RowUse::sifted;
  double* const found_kept = is_sifted ? kept_ : nullptr;
  const bool has_products = has_sums && request_.cross != nullptr && request_.targets.columns > 0;
  PlaneTask task =
      plane_task({rows, request_.shift, kept_}, choice, use, has_products ? request_.targets : MatrixView{});
  const std::int64_t words = is_read_before ? 0 : ceiling(rows.rows, mask_rows);
  task.findings.masks = take_masks(words);
  task.findings.kept = found_kept;
  if (has_products) {
    task.products = take_products(task.workers);
  } else if (has_sums && request_.column_sums != nullptr) {
    task.findings.sums = workspace_.take<double>(task.workers * rows.columns);
    if (runs_) fill_zero(task.findings.sums, task.workers * rows.columns * 8, stream_);
  }
  if (!is_read_before) task.findings.below = find_targets(task.findings.masks, words, found_kept);
  // Where there are no targets, nothing is known of a row before.
  if (is_sifted && request_.targets.columns == 0) task.rows.scale = nullptr;
  add_by_planes(task, work, {});
  if (!is_read_before) {
    if (runs_) count_rows(task.findings.masks, rows.rows, counts_, stream_);
    if (is_sifted) measure_kept_targets(task.findings.masks);
    settle();
  }
  if (has_products) {
    add_products(task.products, task.workers);
  } else if (task.findings.sums != nullptr) {
    add_products({{}, 0, nullptr, task.findings.sums}, task.workers);
  }
  workspace_ = before;
  finalize_ranged(work);
}

bool GramPass::finds_products(const GramChoice& choice, bool is_wide, bool is_read_before) const {
  const MatrixView& targets = request_.targets;
  if (is_wide || is_converted(choice.method)) return can_form_products(targets);
  return !choice.is_as_stored && choice.needs_planes && !is_converted_by_tile(choice.method) &&
         can_form_plane_products(request_.features, targets, use_of_planes(is_read_before), device_);
}

bool GramPass::finds_energies(const GramChoice& choice, const double* unit_shift) const {
  return request_.unit_gram != nullptr && is_converted_by_tile(choice.method) &&
         is_converted_by_tile(unit_method(unit_shift));
}

void GramPass::add_wide_moments(bool is_read_before, bool has_sums) {
  const MatrixView& rows = request_.features;
  const Workspace before = workspace_;
  WideMomentTask task{rows, request_.targets, request_.shift, request_.target_shift, {}};
  if (!has_sums || request_.cross == nullptr) task.targets.columns = 0;
  const bool is_one_panel = is_panel(rows);
  const std::int64_t blocks = is_one_panel ? wide_moment_blocks(task) : panel_moment_blocks(task);
  GramWork work(GramMethod::tensor_float64, rows, device_.multiprocessors * blocks, chained_rows,
                slab_values(GramMethod::tensor_float64, rows.columns));
  work.values = workspace_.take<double>(work.slab_values);
  const std::int64_t sum_values = is_one_panel ? work.workers * rows.columns : work.slabs * wide_columns;
  task.findings.sums = workspace_.take<double>(sum_values * (1 + task.targets.columns));
  const bool skips = request_.skips_nonfinite;
  const std::int64_t words = is_read_before && !skips ? 0 : ceiling(rows.rows, mask_rows);
  task.findings.masks = take_masks(words);
  most_used_ = std::max(most_used_, workspace_.used());
  workspace_ = before;
  if (!runs_) return;
  if (!is_one_panel) fill_zero(task.findings.sums, sum_values * (1 + task.targets.columns) * 8, stream_);
  form_found_moments(task, work, words, is_read_before);
  if (has_sums && is_one_panel) {
    add_products({task.targets, 0, nullptr, task.findings.sums}, work.workers);
  } else if (has_sums) {
    add_panel_sums(task, work.workers, guard_, request_.column_sums, request_.cross, stream_);
  }
  finalize(work, guard_, nullptr, request_.gram);
}

void GramPass::form_found_moments(WideMomentTask task, const GramWork& work, std::int64_t words, bool is_read_before) {
  const auto form = [&] {
    if (is_panel(task.features)) return form_wide_moments(task, work.workers, work.values, stream_);
    form_panel_moments(task, work.workers, work.values, stream_);
  };
  const RowMasks masks = task.findings.masks;
  const std::int64_t rows = task.features.rows;
  std::int64_t* const below = words > 0 ? find_targets(masks, words, kept_) : nullptr;
  const bool skips = request_.skips_nonfinite;
  if (!is_read_before) task.findings.below = skips ? &findings_->whole_below : below;
  form();
  if (skips) keep_rows(masks, rows, kept_, stream_);
  if (!is_read_before) count_rows(masks, rows, counts_, stream_);
  if (skips) {
    task.left_out = masks.bad;
    task.counts = counts_;
    task.findings.masks = {};
    task.findings.below = is_read_before ? nullptr : below;
    form();
  }
  if (is_read_before) return;
  if (skips) measure_kept_targets(masks);
  settle();
}

void GramPass::finalize_ranged(const GramWork& work) {
  const bool is_ranged = has_totals() && work.method != GramMethod::tensor_float16;
  if (runs_) finalize(work, is_ranged ? &findings_->near_guard : guard_, nullptr, request_.gram);
  if (is_ranged) add_far_gram();
}

void GramPass::add_far_gram() {
  const Workspace before = workspace_;
  const MatrixView& rows = request_.features;
  GramWork work(GramMethod::tensor_float64, rows, device_);
  work.values = workspace_.take<double>(work.slab_values);
  most_used_ = std::max(most_used_, workspace_.used());
  workspace_ = before;
  if (!runs_) return;
  ScaledRows scaled{rows, request_.shift, kept_};
  scaled.guard = &findings_->far_guard;
  add_double_tensor_gram(scaled, work.workers, work.values, stream_);
  finalize(work, scaled.guard, nullptr, request_.gram);
}

RowMasks GramPass::take_masks(std::int64_t words) {
  std::uint32_t* const filled = workspace_.take<std::uint32_t>(2 * words);
  if (words == 0 || !runs_) return {};
  return {filled, filled + words};
}

RowTargets GramPass::take_products(std::int64_t parts) {
  const MatrixView& targets = request_.targets;
  const std::int64_t count = parts * (1 + targets.columns) * request_.features.columns;
  double* const partial = workspace_.take<double>(count);
  if (runs_) fill_zero(partial, count * 8, stream_);
  return {targets, static_cast<int>(size_of(targets.dtype)), request_.target_shift, partial};
}

void GramPass::add_products(const RowTargets& beside, std::int64_t parts) {
  if (!runs_) return;
  add_parts_of_column_sums({request_.features, nullptr, beside.targets, nullptr, request_.column_sums, request_.cross,
                            beside.partial, parts, guard_},
                           stream_);
}

std::int64_t* GramPass::find_targets(const RowMasks& masks, std::int64_t words, double* kept) {
  if (!runs_) return nullptr;
  fill_zero(masks.filled, words * 8, stream_);
  RowNormTask task = target_task(masks);
  task.kept = kept;
  // Of those that are kept only the exponent counts.
  if (kept != nullptr) task.findings = nullptr;
  if (request_.targets.columns > 0) row_norms(task, stream_);
  return has_totals() ? &findings_->below : nullptr;
}

void GramPass::measure_kept_targets(const RowMasks& masks) {
  if (!runs_ || request_.targets.columns == 0) return;
  RowNormTask task = target_task(masks);
  task.only = kept_;
  row_norms(task, stream_);
}

RowNormTask GramPass::target_task(const RowMasks& masks) const {
  RowNormTask task = row_task();
  task.features.columns = 0;
  task.kept = nullptr;
  task.masks = masks;
  return task;
}

bool GramPass::forms_wide_moments(const GramChoice& choice) const {
  return request_.gram != nullptr && choice.method == GramMethod::tensor_float64 &&
         request_.features.columns > narrow_columns;
}

}  // namespace nrc_fast::cuda
