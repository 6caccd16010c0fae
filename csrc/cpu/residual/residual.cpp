#include "cpu/residual/residual.h"

#include <cmath>
#include <vector>

#include "cpu/machine/isa.h"
#include "cpu/machine/thread_pool.h"
#include "cpu/residual/projection.h"

namespace nrc_fast {
namespace {

const ResidualKernels& kernels_for(const KernelTable& table, const Matrix& features, bool double_precision) {
  const bool wide = double_precision || features.dtype == DType::float64;
  return wide ? table.residual_float64() : table.residual_float32();
}

// Sums of one basis over some rows.
struct ResidualSums {
  explicit ResidualSums(std::int64_t vectors)
      : raw_squares(static_cast<std::size_t>(vectors)), unit_squares(static_cast<std::size_t>(vectors)) {}

  void clear() {
    raw = 0.0;
    unit = 0.0;
    std::fill(raw_squares.begin(), raw_squares.end(), 0.0);
    std::fill(unit_squares.begin(), unit_squares.end(), 0.0);
  }

  void add(const ResidualSums& other) {
    raw += other.raw;
    unit += other.unit;
    for (std::size_t k = 0; k < raw_squares.size(); ++k) {
      raw_squares[k] += other.raw_squares[k];
      unit_squares[k] += other.unit_squares[k];
    }
  }

  std::vector<double> raw_squares;
  std::vector<double> unit_squares;
  double raw = 0.0;
  double unit = 0.0;
};

class ResidualPass {
 public:
  ResidualPass(const KernelTable& table, const Matrix& features, const std::vector<ResidualJob>& jobs,
               bool double_precision)
      : features_(features),
        jobs_(jobs),
        rows_(table.rows()),
        kernels_(kernels_for(table, features, double_precision)) {
    for (const ResidualJob& job : jobs) {
      bases_.emplace_back(kernels_, job.basis, job.vectors, features.columns, job.shift);
      widest_ = std::max(widest_, job.vectors);
    }
  }

  ReadCounts run() {
    double operations = 0.0;
    for (const ResidualJob& job : jobs_) {
      operations += static_cast<double>(features_.rows) * static_cast<double>(features_.columns) *
                    static_cast<double>(4 * job.vectors + 4);
    }
    const int parts = parts_for(operations, features_.rows, thread_count());
    std::vector<ProjectionSpace> spaces;
    std::vector<std::vector<ResidualSums>> sums(static_cast<std::size_t>(parts));
    for (int p = 0; p < parts; ++p) {
      spaces.emplace_back(kernels_, features_, bases_.front().padded, widest_);
      for (const ResidualJob& job : jobs_) sums[static_cast<std::size_t>(p)].emplace_back(job.vectors);
    }
    // Everything is allocated before the threads start: a task must not throw.
    std::vector<std::vector<ResidualSums>> segments = sums;
    parallel_for(parts, [&](int p) {
      const auto index = static_cast<std::size_t>(p);
      run_rows(share(features_.rows, parts, p), spaces[index], segments[index], sums[index]);
    });
    ReadCounts counts;
    for (const ProjectionSpace& space : spaces) merge(counts, space.counts);
    if (are_usable(counts)) add_results(sums);
    return counts;
  }

 private:
  void run_rows(Range rows, ProjectionSpace& space, std::vector<ResidualSums>& segment,
                std::vector<ResidualSums>& totals) const {
    for (std::int64_t first = rows.first; first < rows.last; first += segment_rows) {
      for (ResidualSums& sums : segment) sums.clear();
      run_segment({first, std::min(first + segment_rows, rows.last)}, space, segment);
      for (std::size_t j = 0; j < jobs_.size(); ++j) totals[j].add(segment[j]);
    }
  }

  void run_segment(Range rows, ProjectionSpace& space, std::vector<ResidualSums>& sums) const {
    for_each_group(features_, rows, space, [&](const RowGroup& group) {
      for (std::size_t j = 0; j < jobs_.size(); ++j) {
        project_group(kernels_, features_, bases_[j], group, space);
        if (j == 0) note_nonfinite(group, space);
        add_group(jobs_[j], bases_[j], group, space, sums[j]);
      }
      rows_.count[static_cast<int>(features_.dtype)](
          {group.rows, group.row_stride, group.count, features_.columns, group.first, false, &space.counts});
    });
  }

  void add_group(const ResidualJob& job, const Basis& basis, const RowGroup& group, ProjectionSpace& space,
                 ResidualSums& sums) const {
    const double* const energies = space.energies.as<double>();
    double* const raw_weights = space.raw_weights.as<double>();
    double* const unit_weights = space.unit_weights.as<double>();
    double* const residuals = space.residuals.as<double>();
    const int* const exponents = space.exponents.as<int>();
    for (std::int64_t r = 0; r < group.count; ++r) {
      raw_weights[r] = exponents[r] == 0 ? 1.0 : 0.0;
      unit_weights[r] = energies[r] > 0.0 ? 1.0 / energies[r] : 0.0;
    }
    kernels_.square_sums({space.coefficients.get(), group.count, basis.vector_count, raw_weights, unit_weights,
                          space.captured.as<double>(), sums.raw_squares.data(), sums.unit_squares.data()});
    bool cancels = false;
    for (std::int64_t r = 0; r < group.count; ++r) {
      residuals[r] = energies[r] - space.captured.as<double>()[r];
      cancels = cancels || residuals[r] < least_expanded() * energies[r];
    }
    if (cancels) kernels_.explicit_residual(basis_arguments(basis, group, space));
    for (std::int64_t r = 0; r < group.count; ++r) {
      const double residual = unscaled_square(residuals[r], exponents[r]);
      sums.raw += residual;
      sums.unit += unit_weights[r] * residuals[r];
      if (exponents[r] != 0) add_scaled_squares(space, r, exponents[r], sums);
      if (job.row_residuals != nullptr) job.row_residuals[group.first + r] = residual;
      if (job.row_energies != nullptr) {
        job.row_energies[group.first + r] = unscaled_square(energies[r], exponents[r]);
      }
    }
  }

  // The squares of a row that was loaded divided by 2^exponent: each may over- or underflow on its own.
  void add_scaled_squares(const ProjectionSpace& space, std::int64_t r, int exponent, ResidualSums& sums) const {
    const std::size_t vectors = sums.raw_squares.size();
    for (std::size_t k = 0; k < vectors; ++k) {
      const std::size_t index = static_cast<std::size_t>(r) * vectors + k;
      const double coefficient = kernels_.element_size == 8
                                     ? space.coefficients.as<double>()[index]
                                     : static_cast<double>(space.coefficients.as<float>()[index]);
      sums.raw_squares[k] += unscaled_square(coefficient * coefficient, exponent);
    }
  }

  static double unscaled_square(double square, int exponent) {
    return exponent == 0 ? square : std::ldexp(square, 2 * exponent);
  }

  double least_expanded() const {
    return kernels_.element_size == 8 ? least_expanded_in_float64 : least_expanded_in_float32;
  }

  void add_results(const std::vector<std::vector<ResidualSums>>& sums) const {
    for (std::size_t j = 0; j < jobs_.size(); ++j) {
      ResidualSums total(jobs_[j].vectors);
      for (const std::vector<ResidualSums>& part : sums) total.add(part[j]);
      add_leading(total.raw, total.raw_squares, jobs_[j].raw_sums);
      add_leading(total.unit, total.unit_squares, jobs_[j].unit_sums);
    }
  }

  static void add_leading(double residual, const std::vector<double>& squares, double* sums) {
    std::size_t k = squares.size();
    sums[k] += residual;
    for (; k > 0; --k) {
      residual += squares[k - 1];
      sums[k - 1] += residual;
    }
  }

  const Matrix& features_;
  const std::vector<ResidualJob>& jobs_;
  const RowKernels& rows_;
  const ResidualKernels& kernels_;
  std::vector<Basis> bases_;
  std::int64_t widest_ = 0;
};

}  // namespace

ReadCounts residual(const Matrix& features, const std::vector<ResidualJob>& jobs, bool double_precision) {
  if (features.rows == 0 || features.columns == 0 || jobs.empty()) return {};
  return ResidualPass(current_kernels(), features, jobs, double_precision).run();
}

}  // namespace nrc_fast
