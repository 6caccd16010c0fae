#include "cpu/gram/gram.h"

#include <cstdint>

#include "cpu/gram/gram_pass.h"
#include "cpu/machine/isa.h"

namespace nrc_fast {
namespace {

GramTotals sums_of(const GramRequest& request) {
  if (request.features.columns == 0) return {};
  return GramPass(current_kernels(), request).run();
}

GramRequest request_of_targets(const GramRequest& request) {
  GramRequest own;
  own.features = {request.targets};
  own.shift = request.target_shift;
  own.gram = request.target_gram;
  own.column_sums = request.target_sums;
  own.double_precision = true;
  return own;
}

TargetTotals totals_of_targets(const GramRequest& request) {
  if (request.has_long_targets()) {
    return target_sums({request.targets,
                        request.target_shift,
                        {request.target_gram, request.target_gram_rest, request.target_sums, request.target_sums_rest},
                        request.targets_onto});
  }
  const GramTotals totals = sums_of(request_of_targets(request));
  return {totals.counts, totals.energy};
}

bool are_finite(const double* values, std::int64_t count) {
  double zero = 0.0;
  for (std::int64_t i = 0; values != nullptr && i < count; ++i) zero += 0.0 * values[i];
  return zero == 0.0;
}

}  // namespace

GramCounts gram(const GramRequest& request) {
  if (request.uses_targets()) require_same_rows(request.features, request.targets);
  GramCounts counts;
  if (request.has_target_moments()) {
    const TargetTotals totals = totals_of_targets(request);
    counts.targets = totals.counts;
    counts.target_energy = totals.energy;
    if (!are_usable(counts.targets)) return counts;
  }
  const GramTotals totals = sums_of(request);
  counts.features = totals.counts;
  counts.energy = totals.energy;
  counts.has_finite_sums = are_finite(request.column_sums, request.features.columns);
  return counts;
}

}  // namespace nrc_fast
