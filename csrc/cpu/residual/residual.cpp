#include "cpu/residual/residual.h"

#include <cmath>
#include <functional>

#include "cpu/machine/isa.h"
#include "cpu/machine/rows.h"
#include "cpu/machine/thread_pool.h"

namespace nrc_fast {
namespace {

constexpr std::int64_t gathered_rows = 256;
constexpr std::int64_t cached_bytes = 32 << 10;
constexpr std::int64_t most_rows = 64;

// Sums are taken over this many rows and then added up, so that rounding to one side does not grow with all rows.
constexpr std::int64_t segment_rows = 4096;

const ResidualKernels& kernels_for(const KernelTable& table, const Matrix& features, bool double_precision) {
  const bool wide = double_precision || features.dtype == DType::float64;
  return wide ? table.residual_float64() : table.residual_float32();
}

// Vectors converted to the element type, rows of the scratch, and the shift.
struct Basis {
  Basis(const ResidualKernels& kernels, const double* vectors, std::int64_t count, std::int64_t columns,
        const double* shift_values)
      : vector_count(count),
        padded(round_up(columns, 2 * kernels.lanes)),
        values(count * padded * kernels.element_size),
        is_shifted(shift_values != nullptr),
        shift(shift_values, columns, padded, kernels.element_size) {
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const double value = vectors[k * columns + c];
        if (kernels.element_size == 8) {
          values.as<double>()[k * padded + c] = value;
        } else {
          values.as<float>()[k * padded + c] = static_cast<float>(value);
        }
      }
    }
  }

  std::int64_t vector_count;
  std::int64_t padded;
  Buffer values;
  bool is_shifted;
  Shift shift;
};

struct Workspace {
  Workspace(const ResidualKernels& kernels, const Matrix& features, std::int64_t padded, std::int64_t vectors)
      : row_capacity(std::clamp(cached_bytes / (padded * kernels.element_size) / 4 * 4, std::int64_t{4}, most_rows)),
        reader(features, gathered_rows),
        loaded(row_capacity * padded * kernels.element_size),
        coefficients(row_capacity * vectors * kernels.element_size),
        energies(row_capacity * 8),
        exponents(row_capacity * 4),
        captured(row_capacity * 8),
        residuals(row_capacity * 8),
        raw_weights(row_capacity * 8),
        unit_weights(row_capacity * 8) {}

  std::int64_t row_capacity;
  RowReader reader;
  Buffer loaded;
  Buffer coefficients;
  Buffer energies;
  Buffer exponents;
  Buffer captured;
  Buffer residuals;
  Buffer raw_weights;
  Buffer unit_weights;
  ReadCounts counts;
};

struct RowGroup {
  const char* rows;
  std::int64_t row_stride;
  std::int64_t first;
  std::int64_t count;
};

// Walks rows first..last in groups that fit the scratch.
template <class Visit>
void for_each_group(const Matrix& features, Range rows, Workspace& space, const Visit& visit) {
  const bool gathers = needs_gathering(features);
  // Whole groups, so that the groups, and with them the bits, do not depend on where the rows lie.
  const std::int64_t whole_groups = gathered_rows / space.row_capacity * space.row_capacity;
  const std::int64_t step = gathers ? whole_groups : std::max<std::int64_t>(rows.last - rows.first, 1);
  for (std::int64_t first = rows.first; first < rows.last; first += step) {
    const std::int64_t count = std::min(step, rows.last - first);
    const RowBlock block = space.reader.rows(features, first, count, rows.last, space.counts);
    for (std::int64_t r = 0; r < count; r += space.row_capacity) {
      visit({static_cast<const char*>(block.rows) + r * block.row_stride * size_of(features.dtype), block.row_stride,
             first + r, std::min(space.row_capacity, count - r)});
    }
  }
}

BasisArguments basis_arguments(const Basis& basis, const RowGroup& group, const Workspace& space) {
  return {space.loaded.get(),
          group.count,
          basis.padded,
          basis.values.get(),
          basis.vector_count,
          space.coefficients.get(),
          space.residuals.as<double>(),
          nullptr};
}

// Loads the rows of a group and computes their coefficients.
void project_group(const ResidualKernels& kernels, const Matrix& features, const Basis& basis, const RowGroup& group,
                   Workspace& space) {
  const BasisArguments arguments = basis_arguments(basis, group, space);
  kernels.load[static_cast<int>(features.dtype)](
      {group.rows, group.row_stride, group.count, features.columns, basis.padded, basis.is_shifted,
       basis.shift.high.get(), basis.shift.low.get(), space.loaded.get(), space.energies.as<double>(),
       space.exponents.as<int>()},
      arguments);
  kernels.project(arguments);
}

// Infinite and NaN values make the energy so; rows that are only large are loaded scaled, and theirs is finite.
void note_nonfinite(const RowGroup& group, Workspace& space) {
  for (std::int64_t r = 0; r < group.count; ++r) {
    if (!std::isfinite(space.energies.as<double>()[r])) merge(space.counts, nonfinite_row(group.first + r));
  }
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
    std::vector<Workspace> spaces;
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
    for (const Workspace& space : spaces) merge(counts, space.counts);
    if (are_usable(counts)) add_results(sums);
    return counts;
  }

 private:
  void run_rows(Range rows, Workspace& space, std::vector<ResidualSums>& segment,
                std::vector<ResidualSums>& totals) const {
    for (std::int64_t first = rows.first; first < rows.last; first += segment_rows) {
      for (ResidualSums& sums : segment) sums.clear();
      run_segment({first, std::min(first + segment_rows, rows.last)}, space, segment);
      for (std::size_t j = 0; j < jobs_.size(); ++j) totals[j].add(segment[j]);
    }
  }

  void run_segment(Range rows, Workspace& space, std::vector<ResidualSums>& sums) const {
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

  void add_group(const ResidualJob& job, const Basis& basis, const RowGroup& group, Workspace& space,
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
  void add_scaled_squares(const Workspace& space, std::int64_t r, int exponent, ResidualSums& sums) const {
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

  // Below this share of the energy the expanded form loses more than three decimal digits (float64) or two bits.
  double least_expanded() const { return kernels_.element_size == 8 ? 1e-3 : 0.25; }

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

// A product of the loaded row with its coefficients was divided by 4^exponent, and one with the constant 1, the
// last coefficient, by 2^exponent.
void complete_coefficients(const RowGroup& group, const Workspace& space, std::int64_t vectors) {
  for (std::int64_t r = 0; r < group.count; ++r) {
    const int exponent = space.exponents.as<int>()[r];
    double* const coefficients = space.coefficients.as<double>() + r * vectors;
    for (std::int64_t k = 0; exponent != 0 && k + 1 < vectors; ++k) {
      coefficients[k] = std::ldexp(coefficients[k], 2 * exponent);
    }
    coefficients[vectors - 1] = std::ldexp(1.0, exponent);
  }
}

// A float64 pass whose every thread adds to its own copy of `size` results.
ReadCounts summed_pass(const ResidualKernels& kernels, const Matrix& features, const Basis& basis, std::int64_t size,
                       double* results, const std::function<void(const RowGroup&, Workspace&, double*)>& visit) {
  const double operations = static_cast<double>(features.rows) * static_cast<double>(features.columns) *
                            static_cast<double>(4 * basis.vector_count);
  const int parts = parts_for(operations, features.rows, thread_count());
  std::vector<Workspace> spaces;
  std::vector<Buffer> sums;
  std::vector<Buffer> segments;
  for (int p = 0; p < parts; ++p) {
    spaces.emplace_back(kernels, features, basis.padded, basis.vector_count);
    sums.emplace_back(size * 8);
    segments.emplace_back(size * 8);
  }
  parallel_for(parts, [&](int p) {
    const auto index = static_cast<std::size_t>(p);
    const Range rows = share(features.rows, parts, p);
    double* const totals = sums[index].as<double>();
    double* const segment = segments[index].as<double>();
    for (std::int64_t first = rows.first; first < rows.last; first += segment_rows) {
      std::fill_n(segment, size, 0.0);
      for_each_group(features, {first, std::min(first + segment_rows, rows.last)}, spaces[index],
                     [&](const RowGroup& group) {
                       project_group(kernels, features, basis, group, spaces[index]);
                       note_nonfinite(group, spaces[index]);
                       visit(group, spaces[index], segment);
                     });
      for (std::int64_t i = 0; i < size; ++i) totals[i] += segment[i];
    }
  });
  ReadCounts counts;
  for (const Workspace& space : spaces) merge(counts, space.counts);
  for (std::size_t p = 0; are_usable(counts) && p < sums.size(); ++p) {
    for (std::int64_t i = 0; i < size; ++i) results[i] += sums[p].as<double>()[i];
  }
  return counts;
}

}  // namespace

ReadCounts residual(const Matrix& features, const std::vector<ResidualJob>& jobs, bool double_precision) {
  if (features.rows == 0 || features.columns == 0 || jobs.empty()) return {};
  return ResidualPass(current_kernels(), features, jobs, double_precision).run();
}

ReadCounts gram_product(const Matrix& features, const double* shift, const double* vectors, std::int64_t count,
                        double* image, double* column_sums) {
  if (features.rows == 0 || features.columns == 0) return {};
  // One vector more, whose coefficients are 1: its image is the sum of the rows.
  std::vector<double> extended(vectors, vectors + count * features.columns);
  extended.resize(static_cast<std::size_t>((count + 1) * features.columns));
  const ResidualKernels& kernels = current_kernels().residual_float64();
  const Basis basis(kernels, extended.data(), count + 1, features.columns, shift);
  std::vector<double> padded(static_cast<std::size_t>((count + 1) * basis.padded));
  const ReadCounts counts = summed_pass(kernels, features, basis, (count + 1) * basis.padded, padded.data(),
                                        [&](const RowGroup& group, Workspace& space, double* sums) {
                                          complete_coefficients(group, space, basis.vector_count);
                                          BasisArguments arguments = basis_arguments(basis, group, space);
                                          arguments.image = sums;
                                          kernels.image(arguments);
                                        });
  for (std::int64_t k = 0; k <= count; ++k) {
    double* const target = k < count ? image + k * features.columns : column_sums;
    for (std::int64_t c = 0; c < features.columns; ++c) {
      target[c] += padded[static_cast<std::size_t>(k * basis.padded + c)];
    }
  }
  return counts;
}

ReadCounts prediction_error(const Matrix& features, const double* weights, const double* bias, const Matrix& targets,
                            double* errors) {
  if (features.rows == 0 || features.columns == 0) return {};
  const std::int64_t outputs = targets.columns;
  const ResidualKernels& kernels = current_kernels().residual_float64();
  const Basis basis(kernels, weights, outputs, features.columns, nullptr);
  return summed_pass(kernels, features, basis, outputs, errors,
                     [&](const RowGroup& group, Workspace& space, double* sums) {
                       for (std::int64_t r = 0; r < group.count; ++r) {
                         const int exponent = space.exponents.as<int>()[r];
                         for (std::int64_t t = 0; t < outputs; ++t) {
                           const double coefficient = space.coefficients.as<double>()[r * outputs + t];
                           const double product = exponent == 0 ? coefficient : std::ldexp(coefficient, exponent);
                           const double error = product + bias[t] - element(targets, group.first + r, t);
                           sums[t] += error * error;
                         }
                       }
                     });
}

}  // namespace nrc_fast
