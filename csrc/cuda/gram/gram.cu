// Which kernels a Gram pass launches, on which part of the workspace.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/gram/gram.h"
#include "cuda/gram/prepare.h"
#include "cuda/machine/workspace.h"

namespace nrc_fast::cuda {
namespace {

constexpr std::int64_t plane_bytes_at_once = std::int64_t{256} << 20;

bool is_16_bit(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

// float32 products of split numbers are slower there than float32 arithmetic itself.
bool has_half_rate_tensor_cores(Capability capability) {
  return (capability.major == 8 && capability.minor > 0) || capability.major == 12;
}

int plane_count(GramMethod method) { return method == GramMethod::tensor_split ? 3 : 1; }

std::int64_t plane_row_stride(const MatrixView& rows) { return round_up(rows.columns, chunk_columns); }

// Rows whose planes are in memory at once: whole folds, and the same whatever the number of rows.
std::int64_t plane_rows(const MatrixView& rows, GramMethod method, std::int64_t wanted) {
  const std::int64_t row_bytes = plane_row_stride(rows) * 2 * plane_count(method);
  const std::int64_t most = plane_bytes_at_once / row_bytes / 8192 * 8192;
  const std::int64_t at_once = wanted > 0 ? wanted : (most < 8192 ? 8192 : most);
  return rows.rows < at_once ? rows.rows : at_once;
}

bool can_be_copied(const MatrixView& rows) {
  const bool unit_stride = rows.column_stride == 1 || rows.columns == 1;
  return unit_stride && rows.row_stride % chunk_columns == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

// Blocks of a method's kernel that run at once on a multiprocessor.
std::int64_t blocks_at_once(GramMethod method, const MatrixView& rows) {
  if (method == GramMethod::tensor_float64) return double_tensor_blocks(rows.dtype, rows.columns);
  if (is_direct(method)) return direct_gram_blocks(method, rows.dtype);
  return tile_size(method, rows.columns) == 128 ? 1 : 2;
}

class GramPass {
 public:
  GramPass(const GramRequest& request, const DeviceLimits& device, char* workspace, Stream stream)
      : request_(request), device_(device), workspace_(workspace), runs_(workspace != nullptr), stream_(stream) {}

  std::int64_t run() {
    const MatrixView& rows = request_.features;
    double* const inverse_norms = request_.unit_gram == nullptr ? nullptr : workspace_.take<double>(rows.rows);
    const double* const unit_shift = request_.unit_rows_are_shifted ? request_.shift : nullptr;
    const RowNormTask task = begin(unit_shift, inverse_norms);
    if (reads_once()) {
      add_moments(task);
      add_gram({rows, unit_shift, inverse_norms}, request_.precision, request_.unit_gram);
      return std::max(most_used_, workspace_.used());
    }
    if (runs_) row_norms(task, stream_);
    settle();
    const MatrixView& targets = request_.targets;
    MatrixView crossed = targets;
    if (request_.cross == nullptr) crossed.columns = 0;
    if (request_.column_sums != nullptr || request_.cross != nullptr) {
      sum_columns(rows, request_.shift, crossed, request_.column_sums, request_.cross);
    }
    if (request_.target_sums != nullptr) sum_columns(targets, request_.target_shift, {}, request_.target_sums, nullptr);
    // The Gram matrices use the same memory, one after the other.
    add_gram({rows, request_.shift, kept_}, request_.precision, request_.gram);
    add_gram({rows, unit_shift, inverse_norms}, request_.precision, request_.unit_gram);
    add_gram({targets, request_.target_shift, kept_}, Precision::highest, request_.target_gram);
    return std::max(most_used_, workspace_.used());
  }

 private:
  // Float64 products of few columns need nothing to be known before, and one read finds all sums.
  bool reads_once() const {
    if (request_.gram == nullptr || !can_form_moments(request_.features, request_.targets)) return false;
    const GramChoice choice = choose_gram(request_.features, request_.totals != nullptr, request_.shift != nullptr,
                                          request_.precision, device_.capability);
    return choice.method == GramMethod::tensor_float64;
  }

  void add_moments(const RowNormTask& task) {
    const Workspace before = workspace_;
    const MatrixView& rows = task.features;
    const std::int64_t workers =
        workers_for(GramMethod::tensor_float64, rows.rows, rows.columns,
                    device_.multiprocessors * moment_blocks(rows, task.targets));
    const WorkPlan plan = plan_for(GramMethod::tensor_float64, rows.rows, rows.columns, workers);
    double* const slabs = workspace_.take<double>(slab_count(plan) * moment_values);
    if (runs_) form_moments(task, workers, slabs, stream_);
    settle();
    const GramMoments sums{request_.gram,        request_.column_sums, request_.cross,      request_.target_gram,
                           request_.target_sums, rows.columns,         task.targets.columns};
    if (runs_) finalize_moments(rows.rows, workers, slabs, guard_, sums, stream_);
    most_used_ = std::max(most_used_, workspace_.used());
    workspace_ = before;
  }

  // What is to be known of the rows before anything is added.
  RowNormTask begin(const double* unit_shift, double* inverse_norms) {
    RowNormTask task{request_.features, request_.targets, unit_shift, inverse_norms, request_.counts};
    task.shift = request_.shift;
    task.target_shift = request_.target_shift;
    guard_ = request_.counts;
    if (request_.totals == nullptr) return task;
    findings_ = workspace_.take<Findings>(1);
    if (request_.skips_nonfinite) kept_ = workspace_.take<double>(request_.features.rows);
    if (!runs_) return task;
    guard_ = &findings_->guard;
    task.counts = &findings_->counts;
    task.findings = findings_;
    task.kept = kept_;
    begin_findings(findings_, stream_);
    return task;
  }

  void settle() {
    if (findings_ == nullptr || !runs_) return;
    settle_findings(findings_, request_.totals, request_.features.rows, request_.skips_nonfinite, stream_);
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

  void add_gram(ScaledRows scaled, Precision precision, double* gram) {
    if (gram == nullptr) return;
    const Workspace before = workspace_;
    const MatrixView& rows = scaled.rows;
    const bool has_totals = request_.totals != nullptr;
    const bool is_scaled = gram == request_.unit_gram || has_totals;
    const GramChoice choice = choose_gram(rows, is_scaled, scaled.shift != nullptr, precision, device_.capability);
    const bool is_float64 = choice.method == GramMethod::float64 || choice.method == GramMethod::tensor_float64;
    // Unit rows are in range anyway.
    const bool is_common = has_totals && !is_float64 && gram == request_.gram;
    if (is_common && runs_) scaled.common = &findings_->scale;
    const std::int64_t workers = workers_for(choice.method, rows.rows, rows.columns,
                                             device_.multiprocessors * blocks_at_once(choice.method, rows));
    const std::int64_t values = slab_count(plan_for(choice.method, rows.rows, rows.columns, workers)) *
                                slab_values(choice.method, rows.columns);
    double* const slabs = workspace_.take<double>(values);
    if (runs_ && !is_direct(choice.method)) fill_zero(slabs, values * 8, stream_);
    if (choice.needs_planes) {
      add_by_planes(choice.method, scaled, workers, slabs, is_scaled);
    } else if (runs_ && choice.method == GramMethod::tensor_float64) {
      add_double_tensor_gram(scaled, workers, slabs, stream_);
    } else if (runs_ && is_direct(choice.method)) {
      add_direct_gram(choice.method, scaled, workers, slabs, stream_);
    } else if (runs_) {
      add_tensor_gram(choice.method,
                      {static_cast<const std::uint16_t*>(rows.data), rows.rows, rows.columns, rows.row_stride, 0},
                      workers, slabs, stream_);
    }
    const double* const factor = is_common && runs_ ? &findings_->inverse_square : nullptr;
    if (runs_) finalize_gram(choice.method, rows.rows, rows.columns, workers, slabs, guard_, factor, gram, stream_);
    most_used_ = std::max(most_used_, workspace_.used());
    workspace_ = before;
  }

  void add_by_planes(GramMethod method, const ScaledRows& scaled, std::int64_t workers, double* slabs, bool is_scaled) {
    const MatrixView& rows = scaled.rows;
    const std::int64_t stride = plane_row_stride(rows);
    const std::int64_t at_once = plane_rows(rows, method, request_.rows_at_once);
    std::uint16_t* const planes = workspace_.take<std::uint16_t>(at_once * stride * plane_count(method));
    if (!runs_) return;
    const bool is_copy = is_16_bit(rows.dtype) && scaled.shift == nullptr && !is_scaled;
    const PlaneContent content = method == GramMethod::tensor_split ? PlaneContent::split
                                 : is_copy                          ? PlaneContent::copied
                                                                    : PlaneContent::rounded;
    for (std::int64_t first = 0; first < rows.rows; first += at_once) {
      const std::int64_t count = rows.rows - first < at_once ? rows.rows - first : at_once;
      ScaledRows part = scaled;
      part.rows = part_of(rows, first, count);
      if (part.scale != nullptr) part.scale += first;
      write_planes(part, content, planes, stride, at_once * stride, device_.multiprocessors, stream_);
      add_tensor_gram(method, {planes, count, rows.columns, stride, at_once * stride}, workers, slabs, stream_);
    }
  }

  const GramRequest& request_;
  const DeviceLimits& device_;
  Workspace workspace_;
  bool runs_;
  Stream stream_;
  const RowCounts* guard_ = nullptr;
  Findings* findings_ = nullptr;
  double* kept_ = nullptr;
  std::int64_t most_used_ = 0;
};

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace

GramChoice choose_gram(const MatrixView& rows, bool is_scaled, bool is_shifted, Precision precision,
                       Capability capability) {
  if (rows.dtype == DType::float64 || precision == Precision::highest) {
    return {capability.major >= 8 ? GramMethod::tensor_float64 : GramMethod::float64, false};
  }
  const bool is_as_stored = is_16_bit(rows.dtype) && !is_scaled && !is_shifted;
  const bool has_bfloat16 = capability.major >= 8;
  if (is_as_stored && (has_bfloat16 || rows.dtype == DType::float16)) {
    const bool is_float16 = rows.dtype == DType::float16;
    return {is_float16 ? GramMethod::tensor_float16 : GramMethod::tensor_bfloat16, !can_be_copied(rows)};
  }
  if (!has_bfloat16) return {GramMethod::float32, false};
  if (precision == Precision::fast) return {GramMethod::tensor_bfloat16, true};
  if (has_half_rate_tensor_cores(capability)) return {GramMethod::float32, false};
  return {GramMethod::tensor_split, true};
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
