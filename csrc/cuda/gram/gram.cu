// A Gram pass from its first step to its last, and what is known of the rows before.
#include <stdexcept>

#include "cuda/gram/gram_pass.h"

namespace nrc_fast::cuda {
namespace {

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace

std::int64_t GramPass::run() {
  const MatrixView& rows = request_.features;
  const double* const unit_shift = request_.unit_rows_are_shifted ? request_.shift : nullptr;
  begin();
  if (reads_once()) {
    double* const norms = request_.unit_gram == nullptr ? nullptr : workspace_.take<double>(rows.rows);
    add_moments(unit_shift, norms);
    add_gram({rows, unit_shift, norms}, request_.precision, request_.unit_gram);
    return std::max(most_used_, workspace_.used());
  }
  const GramChoice choice =
      choose_gram(rows, request_.skips_nonfinite, request_.shift != nullptr, request_.precision, device_.capability);
  // What else is wanted of the rows is found in the read that multiplies them or writes their planes.
  const bool is_wide = forms_wide_moments(choice);
  const bool is_found_on_the_way = request_.gram != nullptr && (!is_direct(choice.method) || is_wide);
  const bool needs_norms = request_.unit_gram != nullptr && !finds_norms(unit_shift);
  double* const inverse_norms = needs_norms ? workspace_.take<double>(rows.rows) : nullptr;
  const bool is_known_before = request_.skips_nonfinite && !is_wide && !can_be_sifted_or_normed(rows);
  const bool is_read_before = !is_found_on_the_way || needs_norms || is_known_before;
  if (is_read_before) {
    inspect(unit_shift, inverse_norms);
    settle();
  }
  const bool has_energies = is_found_on_the_way && finds_energies(choice, unit_shift);
  if (has_energies) energies_ = workspace_.take<double>(rows.rows * energy_tiles());
  // The Gram matrices use the same memory, one after the other.
  const bool has_sums =
      is_found_on_the_way && (request_.cross == nullptr || finds_products(choice, is_wide, is_read_before));
  const bool is_split_on_the_way = is_converted(choice.method) || is_converted_by_tile(choice.method);
  if (is_wide) {
    add_wide_moments(is_read_before, has_sums);
  } else if (is_found_on_the_way && (choice.is_as_stored || is_split_on_the_way)) {
    add_found_gram(choice, is_read_before, has_sums);
  } else if (is_found_on_the_way) {
    add_gram_of_planes(choice, is_read_before, has_sums);
  }
  if (!has_sums && (request_.cross != nullptr || request_.column_sums != nullptr)) {
    MatrixView crossed = request_.targets;
    if (request_.cross == nullptr) crossed.columns = 0;
    sum_columns(rows, request_.shift, crossed, request_.column_sums, request_.cross);
  }
  if (request_.target_sums != nullptr && request_.targets.columns > 0) {
    sum_columns(request_.targets, request_.target_shift, {}, request_.target_sums, nullptr);
  }
  if (!is_found_on_the_way) add_gram({rows, request_.shift, kept_}, request_.precision, request_.gram);
  if (has_energies || (request_.unit_gram != nullptr && is_converted(unit_method(unit_shift)))) {
    add_unit_gram(unit_shift);
  } else {
    add_gram({rows, unit_shift, needs_norms ? inverse_norms : kept_}, request_.precision, request_.unit_gram);
  }
  add_gram({request_.targets, request_.target_shift, kept_}, Precision::highest, request_.target_gram);
  return std::max(most_used_, workspace_.used());
}

void GramPass::begin() {
  guard_ = counts_ = request_.counts;
  if (!has_totals()) return;
  findings_ = workspace_.take<Findings>(1);
  if (request_.skips_nonfinite) kept_ = workspace_.take<double>(request_.features.rows);
  if (!runs_) return;
  guard_ = &findings_->guard;
  counts_ = &findings_->counts;
  begin_findings(findings_, stream_);
}

RowNormTask GramPass::row_task() const {
  RowNormTask task{request_.features, request_.targets, nullptr, nullptr, counts_};
  if (!has_totals()) return task;
  task.shift = request_.shift;
  task.target_shift = request_.target_shift;
  task.findings = findings_;
  task.kept = kept_;
  return task;
}

void GramPass::inspect(const double* unit_shift, double* inverse_norms) {
  if (!runs_) return;
  RowNormTask task = row_task();
  task.norm_shift = unit_shift;
  task.inverse_norms = inverse_norms;
  row_norms(task, stream_);
}

void GramPass::settle() {
  if (!runs_ || !has_totals()) return;
  settle_findings(findings_, request_.totals, request_.features.rows, request_.skips_nonfinite, stream_);
}

void GramPass::sum_columns(const MatrixView& rows, const double* shift, const MatrixView& targets, double* sums,
                           double* cross) {
  const std::int64_t parts = column_sum_parts(rows.rows, rows.columns, device_.multiprocessors);
  double* const partial = workspace_.take<double>(parts * (1 + targets.columns) * rows.columns);
  most_used_ = std::max(most_used_, workspace_.used());
  if (runs_) {
    add_column_sums({rows, shift, targets, request_.target_shift, sums, cross, partial, parts, guard_, kept_}, stream_);
  }
}

std::int64_t gram_workspace(const GramRequest& request, const DeviceLimits& device) {
  if (request.features.rows == 0 || request.features.columns == 0) return 0;
  return GramPass(request, device, nullptr, Stream{}).run();
}

void gram(const GramRequest& request, const DeviceLimits& device, Stream stream) {
  if (request.features.rows == 0 || request.features.columns == 0) return;
  require(request.counts != nullptr || request.totals != nullptr, "a Gram pass needs memory for its counts");
  require(request.totals != nullptr || !request.skips_nonfinite, "rows are skipped where totals count them");
  if (request.uses_targets()) require_same_rows(request.features, request.targets);
  require_workspace(request.workspace, request.workspace_bytes, gram_workspace(request, device), "gram");
  GramPass(request, device, request.workspace, stream).run();
}

}  // namespace nrc_fast::cuda
