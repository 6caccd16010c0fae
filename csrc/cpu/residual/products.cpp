#include "cpu/residual/products.h"

#include <cmath>
#include <functional>
#include <vector>

#include "cpu/machine/isa.h"
#include "cpu/machine/thread_pool.h"
#include "cpu/residual/projection.h"

namespace nrc_fast {
namespace {

// A product of the loaded row with its coefficients was divided by 4^exponent, and one with the constant 1, the
// last coefficient, by 2^exponent.
void complete_coefficients(const RowGroup& group, const ProjectionSpace& space, std::int64_t vectors) {
  for (std::int64_t r = 0; r < group.count; ++r) {
    const int exponent = space.exponents.as<int>()[r];
    double* const coefficients = space.coefficients.as<double>() + r * vectors;
    for (std::int64_t k = 0; exponent != 0 && k + 1 < vectors; ++k) {
      coefficients[k] = std::ldexp(coefficients[k], 2 * exponent);
    }
    coefficients[vectors - 1] = std::ldexp(1.0, exponent);
  }
}

double energy_of(const RowGroup& group, const ProjectionSpace& space) {
  double sum = 0.0;
  for (std::int64_t r = 0; r < group.count; ++r) {
    const double energy = space.energies.as<double>()[r];
    const int exponent = space.exponents.as<int>()[r];
    sum += exponent == 0 ? energy : std::ldexp(energy, 2 * exponent);
  }
  return sum;
}

void add_squared_errors(const RowGroup& group, const ProjectionSpace& space, const PredictionError& sums,
                        double* errors) {
  const std::int64_t outputs = sums.targets.columns;
  for (std::int64_t r = 0; r < group.count; ++r) {
    const int exponent = space.exponents.as<int>()[r];
    for (std::int64_t t = 0; t < outputs; ++t) {
      const double coefficient = space.coefficients.as<double>()[r * outputs + t];
      const double product = exponent == 0 ? coefficient : std::ldexp(coefficient, exponent);
      const double error = product + sums.bias[t] - element(sums.targets, group.first + r, t);
      errors[t] += error * error;
    }
  }
}

// A float64 pass whose every thread adds to its own copy of `size` results.
ReadCounts summed_pass(const ResidualKernels& kernels, const Matrix& features, const Basis& basis, std::int64_t size,
                       double* results, const std::function<void(const RowGroup&, ProjectionSpace&, double*)>& visit) {
  const double operations = static_cast<double>(features.rows) * static_cast<double>(features.columns) *
                            static_cast<double>(4 * basis.vector_count);
  const int parts = parts_for(operations, features.rows, thread_count());
  std::vector<ProjectionSpace> spaces;
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
  for (const ProjectionSpace& space : spaces) merge(counts, space.counts);
  for (std::size_t p = 0; are_usable(counts) && p < sums.size(); ++p) {
    for (std::int64_t i = 0; i < size; ++i) results[i] += sums[p].as<double>()[i];
  }
  return counts;
}

}  // namespace

ReadCounts gram_product(const ProductRequest& request, const GramProduct& sums) {
  const Matrix& features = request.features;
  if (features.rows == 0 || features.columns == 0) return {};
  const std::int64_t count = request.count;
  // One vector more, whose coefficients are 1: its image is the sum of the rows.
  std::vector<double> extended(request.vectors, request.vectors + count * features.columns);
  extended.resize(static_cast<std::size_t>((count + 1) * features.columns));
  const ResidualKernels& kernels = current_kernels().residual_float64();
  const Basis basis(kernels, extended.data(), count + 1, features.columns, sums.shift);
  // Behind the images, the energy.
  const std::int64_t images = (count + 1) * basis.padded;
  std::vector<double> padded(static_cast<std::size_t>(images + 1));
  const ReadCounts counts = summed_pass(kernels, features, basis, images + 1, padded.data(),
                                        [&](const RowGroup& group, ProjectionSpace& space, double* image) {
                                          complete_coefficients(group, space, basis.vector_count);
                                          BasisArguments arguments = basis_arguments(basis, group, space);
                                          arguments.image = image;
                                          kernels.image(arguments);
                                          image[images] += energy_of(group, space);
                                        });
  for (std::int64_t k = 0; k <= count; ++k) {
    double* const target = k < count ? sums.image + k * features.columns : sums.column_sums;
    for (std::int64_t c = 0; c < features.columns; ++c) {
      target[c] += padded[static_cast<std::size_t>(k * basis.padded + c)];
    }
  }
  *sums.energy += padded.back();
  return counts;
}

ReadCounts prediction_error(const ProductRequest& request, const PredictionError& sums) {
  const Matrix& features = request.features;
  require_target_columns(features, sums.targets, request.count);
  if (features.rows == 0 || features.columns == 0) return {};
  const ResidualKernels& kernels = current_kernels().residual_float64();
  const Basis basis(kernels, request.vectors, request.count, features.columns, nullptr);
  return summed_pass(kernels, features, basis, request.count, sums.errors,
                     [&](const RowGroup& group, const ProjectionSpace& space, double* errors) {
                       add_squared_errors(group, space, sums, errors);
                     });
}

}  // namespace nrc_fast
