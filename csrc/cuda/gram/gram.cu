// Which kernels a Gram pass launches, on which part of the workspace.
#include <algorithm>
#include <stdexcept>

#include "cuda/gram/column_products.h"
#include "cuda/gram/gram.h"
#include "cuda/gram/gram_work.h"
#include "cuda/gram/prepare.h"
#include "cuda/machine/workspace.h"

namespace nrc_fast::cuda {
namespace {

class GramPass {
 public:
  GramPass(const GramRequest& request, const DeviceLimits& device, char* workspace, Stream stream)
      : request_(request), device_(device), workspace_(workspace), runs_(workspace != nullptr), stream_(stream) {}

  std::int64_t run() {
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
    const bool is_known_before = request_.skips_nonfinite && !can_be_sifted_or_normed(rows);
    const bool is_read_before = !is_found_on_the_way || needs_norms || is_known_before;
    if (is_read_before) {
      inspect(unit_shift, inverse_norms);
      settle();
    }
    // The Gram matrices use the same memory, one after the other.
    const bool has_products = (is_wide || is_converted(choice.method)) && can_form_products(request_.targets);
    const bool has_sums = is_found_on_the_way && (request_.cross == nullptr || has_products);
    if (is_wide) {
      add_wide_moments(is_read_before, has_sums);
    } else if (is_found_on_the_way && (choice.is_as_stored || is_converted(choice.method))) {
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
    if (request_.unit_gram != nullptr && is_converted(unit_method(unit_shift))) {
      add_unit_gram(unit_shift);
    } else {
      add_gram({rows, unit_shift, needs_norms ? inverse_norms : kept_}, request_.precision, request_.unit_gram);
    }
    add_gram({request_.targets, request_.target_shift, kept_}, Precision::highest, request_.target_gram);
    return std::max(most_used_, workspace_.used());
  }

 private:
  bool has_totals() const { return request_.totals != nullptr; }

  // Float64 products of few columns need nothing to be known before, and one read finds all sums.
  bool reads_once() const {
    if (request_.gram == nullptr || !can_form_moments(request_.features, request_.targets)) return false;
    const GramChoice choice =
        choose_gram(request_.features, has_totals(), request_.shift != nullptr, request_.precision, device_.capability);
    return choice.method == GramMethod::tensor_float64;
  }

  void add_moments(const double* unit_shift, double* inverse_norms) {
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

  // Rows are converted on their way to the tensor cores. Those that are skipped must be known before.
  bool is_converted(GramMethod method) const {
    return !request_.skips_nonfinite && request_.rows_at_once == 0 &&
           can_convert_rows(request_.features, method, device_);
  }
  GramMethod unit_method(const double* unit_shift) const {
    return choose_gram(request_.features, true, unit_shift != nullptr, request_.precision, device_.capability).method;
  }

  // Norms are found in the read of the unit Gram matrix itself, on the way to the tensor cores or to planes.
  bool finds_norms(const double* unit_shift) const {
    const GramMethod method = unit_method(unit_shift);
    return is_converted(method) || (!is_direct(method) && can_be_sifted_or_normed(request_.features));
  }

  // Float64 products of rows that fit into one tile, unless some of them are to be skipped.
  bool forms_wide_moments(const GramChoice& choice) const {
    return request_.gram != nullptr && choice.method == GramMethod::tensor_float64 && !request_.skips_nonfinite &&
           can_form_wide_moments(request_.features);
  }

  void begin() {
    guard_ = counts_ = request_.counts;
    if (!has_totals()) return;
    findings_ = workspace_.take<Findings>(1);
    if (request_.skips_nonfinite) kept_ = workspace_.take<double>(request_.features.rows);
    if (!runs_) return;
    guard_ = &findings_->guard;
    counts_ = &findings_->counts;
    begin_findings(findings_, stream_);
  }

  RowNormTask row_task() const {
    RowNormTask task{request_.features, request_.targets, nullptr, nullptr, counts_};
    if (!has_totals()) return task;
    task.shift = request_.shift;
    task.target_shift = request_.target_shift;
    task.findings = findings_;
    task.kept = kept_;
    return task;
  }

  // What is known of the rows before anything is added.
  void inspect(const double* unit_shift, double* inverse_norms) {
    if (!runs_) return;
    RowNormTask task = row_task();
    task.norm_shift = unit_shift;
    task.inverse_norms = inverse_norms;
    row_norms(task, stream_);
  }

  void settle() {
    if (!runs_ || !has_totals()) return;
    settle_findings(findings_, request_.totals, request_.features.rows, request_.skips_nonfinite, stream_);
  }

  // The Gram matrix with the counts, unless they are known, and sums over columns, of the same read.
  void add_found_gram(const GramChoice& choice, bool is_read_before, bool has_sums) {
    const MatrixView& rows = request_.features;
    const Workspace before = workspace_;
    GramWork work = take_slabs(choice.method, rows);
    const TensorShape shape = tensor_shape(choice.method, rows, device_);
    const std::int64_t sum_values = work.slabs * sum_rows(shape) * shape.size;
    const std::int64_t words = is_read_before ? 0 : ceiling(rows.rows, mask_rows);
    TensorFindings findings;
    findings.sums = workspace_.take<double>(sum_values);
    findings.masks = take_masks(words);
    const bool has_products = has_sums && request_.cross != nullptr && request_.targets.columns > 0;
    const RowTargets beside = has_products ? take_products(work.workers) : RowTargets{};
    if (runs_) fill_zero(findings.sums, sum_values * 8, stream_);
    if (!is_read_before) findings.below = find_targets(findings.masks, words, nullptr);
    if (!choice.is_as_stored) {
      if (runs_)
        add_converted_gram(shape, rows, request_.shift, false, work.workers, work.values, findings, beside, stream_);
    } else if (choice.needs_planes) {
      add_by_planes(plane_task({rows, nullptr, nullptr}, choice, RowUse::plain), work, findings);
    } else if (runs_) {
      add_tensor_gram(shape,
                      {static_cast<const std::uint16_t*>(rows.data), rows.rows, rows.columns, rows.row_stride, 0},
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

  // The same of rows whose planes are written first; those that are to be left out are found as these are written,
  // unless they are known.
  void add_gram_of_planes(const GramChoice& choice, bool is_read_before, bool has_sums) {
    const MatrixView& rows = request_.features;
    const Workspace before = workspace_;
    const GramWork work = take_slabs(choice.method, rows);
    const bool is_sifted = request_.skips_nonfinite && !is_read_before;
    double* const found_kept = is_sifted ? kept_ : nullptr;
    PlaneTask task = plane_task({rows, request_.shift, kept_}, choice, is_sifted ? RowUse::sifted : RowUse::looked_at);
    const std::int64_t words = is_read_before ? 0 : ceiling(rows.rows, mask_rows);
    task.findings.masks = take_masks(words);
    task.findings.kept = found_kept;
    if (has_sums && request_.column_sums != nullptr) {
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
    if (task.findings.sums != nullptr) add_products({{}, 0, nullptr, task.findings.sums}, task.workers);
    workspace_ = before;
    finalize_ranged(work);
  }

  // Squares of float16 rows as they are stored stay in the range of float32, others need not.
  void finalize_ranged(const GramWork& work) {
    const bool is_ranged = has_totals() && work.method != GramMethod::tensor_float16;
    if (runs_) finalize(work, is_ranged ? &findings_->near_guard : guard_, nullptr, request_.gram);
    if (is_ranged) add_far_gram();
  }

  RowMasks take_masks(std::int64_t words) {
    std::uint32_t* const filled = workspace_.take<std::uint32_t>(2 * words);
    if (words == 0 || !runs_) return {};
    return {filled, filled + words};
  }

  RowTargets take_products(std::int64_t workers) {
    const MatrixView& targets = request_.targets;
    const std::int64_t count = row_target_parts * workers * (1 + targets.columns) * request_.features.columns;
    double* const partial = workspace_.take<double>(count);
    if (runs_) fill_zero(partial, count * 8, stream_);
    return {targets, static_cast<int>(size_of(targets.dtype)), request_.target_shift, partial};
  }

  // Sums over columns and products with targets, from their parts.
  void add_products(const RowTargets& beside, std::int64_t parts) {
    if (!runs_) return;
    add_parts_of_column_sums({request_.features, nullptr, beside.targets, nullptr, request_.column_sums, request_.cross,
                              beside.partial, parts, guard_},
                             stream_);
  }

  // The same in float64, with the products with targets if there are sums.
  void add_wide_moments(bool is_read_before, bool has_sums) {
    const MatrixView& rows = request_.features;
    const Workspace before = workspace_;
    WideMomentTask task{rows, request_.targets, request_.shift, request_.target_shift, {}};
    if (!has_sums || request_.cross == nullptr) task.targets.columns = 0;
    GramWork work(GramMethod::tensor_float64, rows, device_.multiprocessors * wide_moment_blocks(rows, task.targets),
                  chained_rows, slab_values(GramMethod::tensor_float64, rows.columns));
    work.values = workspace_.take<double>(work.slab_values);
    task.findings.sums = workspace_.take<double>(work.workers * (1 + task.targets.columns) * rows.columns);
    const std::int64_t words = is_read_before ? 0 : ceiling(rows.rows, mask_rows);
    task.findings.masks = take_masks(words);
    most_used_ = std::max(most_used_, workspace_.used());
    workspace_ = before;
    if (!runs_) return;
    if (!is_read_before) task.findings.below = find_targets(task.findings.masks, words, nullptr);
    form_wide_moments(task, work.workers, work.values, stream_);
    if (!is_read_before) {
      count_rows(task.findings.masks, rows.rows, counts_, stream_);
      settle();
    }
    if (has_sums && (request_.column_sums != nullptr || request_.cross != nullptr)) {
      add_products({task.targets, 0, nullptr, task.findings.sums}, work.workers);
    }
    finalize(work, guard_, nullptr, request_.gram);
  }

  // Rows whose targets are not finite are marked, and not kept where that is asked for. Where the exponent of the rows
  // goes.
  std::int64_t* find_targets(const RowMasks& masks, std::int64_t words, double* kept) {
    if (!runs_) return nullptr;
    fill_zero(masks.filled, words * 8, stream_);
    RowNormTask task = target_task(masks);
    task.kept = kept;
    // Of those that are kept only the exponent counts.
    if (kept != nullptr) task.findings = nullptr;
    if (request_.targets.columns > 0) row_norms(task, stream_);
    return has_totals() ? &findings_->below : nullptr;
  }

  void measure_kept_targets(const RowMasks& masks) {
    if (!runs_ || request_.targets.columns == 0) return;
    RowNormTask task = target_task(masks);
    task.only = kept_;
    row_norms(task, stream_);
  }

  RowNormTask target_task(const RowMasks& masks) const {
    RowNormTask task = row_task();
    task.features.columns = 0;
    task.kept = nullptr;
    task.masks = masks;
    return task;
  }

  // The same in float64, which the device does only where squares have left the range of float32.
  void add_far_gram() {
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

  void sum_columns(const MatrixView& rows, const double* shift, const MatrixView& targets, double* sums,
                   double* cross) {
    const std::int64_t parts = column_sum_parts(rows.rows, rows.columns, device_.multiprocessors);
    double* const partial = workspace_.take<double>(parts * (1 + targets.columns) * rows.columns);
    most_used_ = std::max(most_used_, workspace_.used());
    if (runs_) {
      add_column_sums({rows, shift, targets, request_.target_shift, sums, cross, partial, parts, guard_, kept_},
                      stream_);
    }
  }

  void add_unit_gram(const double* unit_shift) {
    const Workspace before = workspace_;
    const MatrixView& rows = request_.features;
    GramWork work = take_slabs(GramMethod::tensor_split, rows);
    most_used_ = std::max(most_used_, workspace_.used());
    workspace_ = before;
    if (!runs_) return;
    const TensorShape shape = tensor_shape(work.method, rows, device_);
    add_converted_gram(shape, rows, unit_shift, true, work.workers, work.values, {}, {}, stream_);
    finalize(work, guard_, nullptr, request_.unit_gram);
  }

  GramWork take_slabs(GramMethod method, const MatrixView& rows) {
    GramWork work(method, rows, device_);
    work.values = workspace_.take<double>(work.slab_values);
    if (runs_ && !is_direct(method)) fill_zero(work.values, work.slab_values * 8, stream_);
    return work;
  }

  void finalize(const GramWork& work, const RowCounts* guard, const double* factor, double* gram) {
    finalize_gram(work.method, work.rows.rows, work.rows.columns, work.workers, work.values, guard, factor, gram,
                  stream_);
  }

  void add_gram(ScaledRows scaled, Precision precision, double* gram) {
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
      add_by_planes(plane_task(scaled, choice, is_normed ? RowUse::normed : RowUse::plain), work, {});
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

  PlaneTask plane_task(const ScaledRows& scaled, const GramChoice& choice, RowUse use) const {
    const MatrixView& rows = scaled.rows;
    const bool is_split = choice.method == GramMethod::tensor_split;
    const PlaneContent content =
        choice.is_as_stored ? PlaneContent::copied : (is_split ? PlaneContent::split : PlaneContent::rounded);
    MatrixView at_once = rows;
    at_once.rows = plane_rows(rows, choice.method, request_.rows_at_once);
    PlaneTask task{scaled, content, use};
    task.workers = plane_workers(at_once, content, use, device_.multiprocessors);
    task.row_stride = plane_row_stride(rows);
    task.plane_stride = at_once.rows * task.row_stride;
    return task;
  }

  void add_by_planes(const PlaneTask& task, const GramWork& work, TensorFindings findings) {
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
      part.rows.scale = skip(part.rows.scale, 1);
      part.findings.kept = skip(part.findings.kept, 1);
      for (RowMasks* masks : {&part.findings.masks, &findings.masks}) {
        *masks = {skip(masks->filled, mask_rows), skip(masks->bad, mask_rows)};
      }
    }
  }

  const GramRequest& request_;
  const DeviceLimits& device_;
  Workspace workspace_;
  bool runs_;
  Stream stream_;
  const RowCounts* guard_ = nullptr;
  RowCounts* counts_ = nullptr;
  Findings* findings_ = nullptr;
  double* kept_ = nullptr;
  std::int64_t most_used_ = 0;
};

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace

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
