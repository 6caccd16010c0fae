// What the residual pass adds up for each basis and for a prediction, over some rows.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/requests.h"
#include "cpu/residual/projection.h"

namespace nrc_fast {

inline double unscaled_square(double square, int exponent) {
  return exponent == 0 ? square : std::ldexp(square, 2 * exponent);
}

// Numbers in lanes, as the kernels add to them.
class LaneSums {
 public:
  explicit LaneSums(std::int64_t count) : lanes_(static_cast<std::size_t>(count * sum_lanes)) {}

  double* lanes(std::int64_t index) { return lanes_.data() + index * sum_lanes; }
  void clear() { std::fill(lanes_.begin(), lanes_.end(), 0.0); }
  void add(const LaneSums& other) {
    for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i] += other.lanes_[i];
  }
  double total(std::int64_t index) const {
    double sum = 0.0;
    for (std::int64_t i = 0; i < sum_lanes; ++i) sum += lanes_[static_cast<std::size_t>(index * sum_lanes + i)];
    return sum;
  }

 private:
  std::vector<double> lanes_;
};

// Of one basis: the squared coefficient of each vector and, behind them, the squared residual.
struct BasisSums {
  explicit BasisSums(std::int64_t vectors) : vector_count(vectors), raw(vectors + 1), unit(vectors + 1) {}

  void clear() {
    raw.clear();
    unit.clear();
  }
  void add(const BasisSums& other) {
    raw.add(other.raw);
    unit.add(other.unit);
  }

  std::int64_t vector_count;
  LaneSums raw;
  LaneSums unit;
};

// Adds the residual with the leading 0..k vectors: no digit is lost where squares of trailing coefficients are added.
inline void add_leading(const LaneSums& squares, std::int64_t vectors, double* sums) {
  double residual = squares.total(vectors);
  sums[vectors] += residual;
  for (std::int64_t k = vectors; k > 0; --k) {
    residual += squares.total(k - 1);
    sums[k - 1] += residual;
  }
}

// Of all bases and the prediction.
struct ResidualSums {
  ResidualSums(const std::vector<ResidualJob>& jobs, std::int64_t outputs) : errors(outputs) {
    for (const ResidualJob& job : jobs) bases.emplace_back(job.vectors);
  }

  void clear() {
    for (BasisSums& sums : bases) sums.clear();
    errors.clear();
  }
  void add(const ResidualSums& other) {
    for (std::size_t j = 0; j < bases.size(); ++j) bases[j].add(other.bases[j]);
    errors.add(other.errors);
  }

  std::vector<BasisSums> bases;
  LaneSums errors;
};

}  // namespace nrc_fast
