#include "cpu/residual/products.h"

#include <cmath>
#include <vector>

#include "cpu/machine/isa.h"
#include "cpu/residual/summed_pass.h"

namespace nrc_fast {
namespace {

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

}  // namespace

ReadCounts prediction_error(const ProductRequest& request, const PredictionError& sums) {
  const Matrix& features = request.features;
  require_target_columns(features, sums.targets, request.count);
  if (features.rows == 0 || features.columns == 0) return {};
  const ResidualKernels& kernels = current_kernels().residual_float64();
  const Basis basis(kernels, request.vectors, request.count, features.columns, nullptr);
  std::vector<ProjectionSpace> spaces;
  for (int p = product_parts(features, request.count); p > 0; --p) {
    spaces.emplace_back(kernels, features, basis.padded, request.count);
  }
  return summed_pass(features, spaces, request.count, sums.errors,
                     [&](const RowGroup& group, ProjectionSpace& space, double* errors) {
                       project_group(kernels, features, basis, group, space);
                       note_nonfinite(group, space);
                       add_squared_errors(group, space, sums, errors);
                     });
}

}  // namespace nrc_fast
