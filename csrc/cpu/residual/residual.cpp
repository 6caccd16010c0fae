#include "cpu/residual/residual.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cpu/machine/isa.h"
#include "cpu/machine/thread_pool.h"
#include "cpu/residual/job_images.h"
#include "cpu/residual/projection.h"
#include "cpu/residual/residual_sums.h"
#include "cpu/residual/segment_outputs.h"

namespace nrc_fast {
namespace {

// Rows whose squares are added up plainly, in lanes, before these sums are added up without loss.
constexpr std::int64_t summed_rows = 128;

const ResidualKernels& kernels_for(const KernelTable& table, const ResidualRequest& request) {
  const bool wide = request.double_precision || request.features.dtype == DType::float64;
  return wide ? table.residual_float64() : table.residual_float32();
}

// Scratch of one thread, with the targets of a group, and its sums.
struct ResidualSpace : ProjectionSpace {
  ResidualSpace(ProjectionSpace&& projection, const std::vector<BasisJob>& jobs, std::int64_t outputs,
                bool wants_products)
      : ProjectionSpace(std::move(projection)),
        targets(padded_rows * outputs * 8),
        segment(jobs, outputs),
        totals(jobs, outputs),
        products(wants_products ? outputs : 0, summed_rows + row_capacity) {}

  Buffer targets;  // [row][output]
  ResidualSums<LaneSums> segment;
  ResidualSums<Totals> totals;
  SegmentOutputs products;
  std::vector<JobImages> images;  // one for each basis
  std::int64_t in_segment = 0;    // rows
};

class ResidualPass {
 public:
  ResidualPass(const KernelTable& table, const ResidualRequest& request)
      : request_(request),
        features_(request.features),
        kernels_(kernels_for(table, request)),
        outputs_(request.prediction.weights == nullptr ? 0 : request.prediction.targets.columns),
        no_shift_(static_cast<std::size_t>(outputs_)) {
    for (const BasisJob& job : request.jobs) jobs_.push_back(place(job.shift, job.basis, job.vectors));
    if (outputs_ > 0) prediction_ = place(nullptr, request.prediction.weights, outputs_);
    for (Frame& frame : frames_) {
      frame.store();
      most_vectors_ = std::max(most_vectors_, frame.vector_count());
      tiles_ += frame.tiles();
    }
  }

  ReadCounts run() {
    double operations = 0.0;
    for (const Frame& frame : frames_) {
      operations += static_cast<double>(features_.rows) * static_cast<double>(features_.columns) *
                    static_cast<double>(4 * frame.vector_count() + 4);
    }
    std::vector<ResidualSpace> spaces;
    // Everything is allocated before the threads start: a task must not throw.
    for (int p = parts_for(operations, features_.rows, thread_count()); p > 0; --p) {
      spaces.emplace_back(ProjectionSpace(kernels_, features_, frames_.front(), most_vectors_), request_.jobs, outputs_,
                          wants_products());
      for (std::size_t j = 0; j < jobs_.size(); ++j) {
        spaces.back().images.emplace_back(request_.jobs[j], spaces.back(), frames_[jobs_[j].frame]);
      }
    }
    const int parts = static_cast<int>(spaces.size());
    parallel_for(parts, [&](int p) { run_rows(share(features_.rows, parts, p), spaces[static_cast<std::size_t>(p)]); });
    ReadCounts counts;
    for (const ResidualSpace& space : spaces) merge(counts, space.counts);
    if (are_usable(counts)) add_results(spaces);
    return counts;
  }

 private:
  // Where vectors are: of which frame, and the number of the first.
  struct Place {
    std::size_t frame = 0;
    std::int64_t first = 0;
  };

  Place place(const double* shift, const double* vectors, std::int64_t count) {
    std::size_t frame = 0;
    while (frame < frames_.size() && !frames_[frame].has_shift(shift)) ++frame;
    if (frame == frames_.size()) frames_.emplace_back(kernels_, shift, features_.columns);
    return {frame, frames_[frame].append(vectors, count)};
  }

  void run_rows(Range rows, ResidualSpace& space) const {
    for_each_group(features_, rows, space, [&](const RowGroup& group) {
      add_group(group, space);
      space.in_segment += group.count;
      if (space.in_segment < summed_rows && group.first + group.count < rows.last) return;
      space.totals.add(space.segment);
      space.segment.clear();
      space.products.close(kernels_, space.in_segment);
      space.in_segment = 0;
    });
    for (JobImages& images : space.images) images.close();
  }

  bool wants_products() const { return request_.prediction.products != nullptr; }

  void add_group(const RowGroup& group, ResidualSpace& space) const {
    Shares shares{0, round_up((features_.row_bytes() + tiles_ - 1) / tiles_, 64)};
    for (std::size_t f = 0; f < frames_.size(); ++f) {
      project_group(kernels_, features_, frames_[f], group, space, shares);
      shares.first += frames_[f].tiles();
      if (f == 0) note_nonfinite(group, space);
      space.weigh(group.count);
      for (std::size_t j = 0; j < jobs_.size(); ++j) {
        if (jobs_[j].frame == f) add_basis(j, group, space);
      }
      if (outputs_ > 0 && prediction_.frame == f) add_errors(group, space);
    }
  }

  void add_basis(std::size_t j, const RowGroup& group, ResidualSpace& space) const {
    const BasisJob& job = request_.jobs[j];
    const Frame& frame = frames_[jobs_[j].frame];
    BasisSums<LaneSums>& sums = space.segment.bases[j];
    kernels_.add_residuals({space.loaded.get(), group.count, space.padded_rows, frame.padded(), frame.stride(),
                            frame.vector(jobs_[j].first), job.vectors, coefficients(jobs_[j].first, space),
                            space.energies.as<double>(), space.raw_weights.as<double>(),
                            space.unit_weights.as<double>(), least_expanded(kernels_.element_size == 8),
                            space.residuals.as<double>(), sums.raw.lanes(0), sums.unit.lanes(0)});
    if (space.has_scaled) add_scaled_squares(jobs_[j], group, space, sums);
    if (space.images[j].are_wanted()) {
      space.images[j].add(kernels_, frame, group.count, static_cast<const double*>(coefficients(jobs_[j].first, space)),
                          space);
    }
    if (job.row_residuals != nullptr) {
      write_squares(space.residuals, space.exponents, group.count, job.row_residuals + group.first);
    }
    if (job.row_energies != nullptr) {
      write_squares(space.energies, space.exponents, group.count, job.row_energies + group.first);
    }
  }

  // The squares of rows that were loaded divided by 2^exponent: each may over- or underflow on its own.
  void add_scaled_squares(const Place& place, const RowGroup& group, const ResidualSpace& space,
                          BasisSums<LaneSums>& sums) const {
    for (std::int64_t r = 0; r < group.count; ++r) {
      const int exponent = space.exponents.as<int>()[r];
      if (exponent == 0) continue;
      for (std::int64_t k = 0; k < sums.vector_count; ++k) {
        const double value = coefficient(place.first + k, r, space);
        *sums.raw.lanes(k) += unscaled_square(value * value, exponent);
      }
      *sums.raw.lanes(sums.vector_count) += unscaled_square(space.residuals.as<double>()[r], exponent);
      *sums.raw.lanes(sums.vector_count + 1) += unscaled_square(space.energies.as<double>()[r], exponent);
    }
  }

  static void write_squares(const Buffer& squares, const Buffer& exponents, std::int64_t count, double* target) {
    for (std::int64_t r = 0; r < count; ++r) {
      target[r] = unscaled_square(squares.as<double>()[r], exponents.as<int>()[r]);
    }
  }

  // What stores may change is looked up once, before the loop over the rows.
  void add_errors(const RowGroup& group, ResidualSpace& space) const {
    const Prediction& prediction = request_.prediction;
    const bool keeps_outputs = wants_products();
    const std::int64_t count = group.count;
    const std::int64_t outputs = outputs_;
    const double scale = prediction.scale;
    const int* const exponents = space.exponents.as<int>();
    double* const targets = space.targets.as<double>();
    load_as_double(prediction.targets, group.first, count, no_shift_.data(), targets);
    for (std::int64_t t = 0; t < outputs; ++t) {
      const double* const products = space.coefficients.as<double>() + (prediction_.first + t) * space.padded_rows;
      const double bias = prediction.bias[t];
      double* const sums = space.segment.errors.lanes(t);
      double* const residuals = keeps_outputs ? space.products.residuals(t) + space.in_segment : nullptr;
      double* const images = keeps_outputs ? space.products.images(t) + space.in_segment : nullptr;
      for (std::int64_t r = 0; r < count; ++r) {
        const double product = exponents[r] == 0 ? products[r] : std::ldexp(products[r], exponents[r]);
        const double error = scale * product + bias - targets[r * outputs + t];
        sums[r % sum_lanes] += error * error;
        if (!keeps_outputs) continue;
        residuals[r] = -error;
        images[r] = product;
      }
    }
    if (!keeps_outputs) return;
    const double* const squares = space.energies.as<double>();
    double* const energies = space.segment.energies.lanes(0);
    for (std::int64_t r = 0; r < count; ++r) energies[r % sum_lanes] += unscaled_square(squares[r], exponents[r]);
  }

  const void* coefficients(std::int64_t vector, const ResidualSpace& space) const {
    return space.coefficients.as<char>() + vector * space.padded_rows * kernels_.element_size;
  }

  double coefficient(std::int64_t vector, std::int64_t row, const ResidualSpace& space) const {
    const std::int64_t index = vector * space.padded_rows + row;
    return kernels_.element_size == 8 ? space.coefficients.as<double>()[index]
                                      : static_cast<double>(space.coefficients.as<float>()[index]);
  }

  void add_results(const std::vector<ResidualSpace>& spaces) const {
    ResidualSums<Totals> sums(request_.jobs, outputs_);
    for (const ResidualSpace& space : spaces) sums.add(space.totals);
    if (wants_products()) add_products(spaces, sums.energies);
    for (std::size_t j = 0; j < jobs_.size(); ++j) {
      const BasisJob& job = request_.jobs[j];
      add_leading(sums.bases[j].raw, job.vectors, job.raw_sums);
      add_leading(sums.bases[j].unit, job.vectors, job.unit_sums);
      JobImages images(job, spaces.front(), frames_[jobs_[j].frame]);
      for (const ResidualSpace& space : spaces) images.add(space.images[j]);
      images.add_results(job, features_.columns);
      if (job.expanded == nullptr) continue;
      job.expanded[0] += sums.bases[j].raw[job.vectors + 1].total();
      job.expanded[1] += sums.bases[j].unit[job.vectors + 1].total();
    }
    for (std::int64_t t = 0; t < outputs_; ++t) request_.prediction.errors[t] += sums.errors[t].total();
  }

  void add_products(const std::vector<ResidualSpace>& spaces, const Totals& energies) const {
    double* const sums = request_.prediction.products;
    SegmentOutputs products(outputs_, 0);
    for (const ResidualSpace& space : spaces) products.add(space.products);
    products.add_results(sums);
    sums[outputs_ * outputs_ + 1] += energies[0].total();
  }

  const ResidualRequest& request_;
  const Matrix& features_;
  const ResidualKernels& kernels_;
  std::int64_t outputs_;
  std::vector<double> no_shift_;
  std::vector<Frame> frames_;
  std::vector<Place> jobs_;
  Place prediction_;
  std::int64_t most_vectors_ = 0;
  std::int64_t tiles_ = 0;
};

}  // namespace

ReadCounts residual(const ResidualRequest& request) {
  const Prediction& prediction = request.prediction;
  if (prediction.weights != nullptr) {
    require_target_columns(request.features, prediction.targets, prediction.targets.columns);
    if (!request.double_precision) throw std::invalid_argument("errors of predictions are computed in float64");
  }
  const bool wants_images =
      std::any_of(request.jobs.begin(), request.jobs.end(), [](const BasisJob& job) { return job.wants_images(); });
  if (wants_images && !request.double_precision && request.features.dtype != DType::float64) {
    throw std::invalid_argument("images of rows are computed in float64");
  }
  if (request.features.rows == 0 || request.features.columns == 0) return {};
  if (request.jobs.empty() && prediction.weights == nullptr) return {};
  return ResidualPass(current_kernels(), request).run();
}

}  // namespace nrc_fast
