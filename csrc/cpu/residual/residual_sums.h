// What the residual pass adds up for each basis and for a prediction, over some rows.
#pragma once

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common/arithmetic.h"
#include "cpu/residual/projection.h"
#include "cpu/residual/residual.h"

namespace nrc_fast {

inline double unscaled_square(double square, int exponent) {
  return exponent == 0 ? square : std::ldexp(square, 2 * exponent);
}

// Numbers in lanes, as the kernels add to them over a segment of rows.
class LaneSums {
 public:
  explicit LaneSums(std::int64_t count) : lanes_(static_cast<std::size_t>(count * sum_lanes)) {}

  double* lanes(std::int64_t index) { return lanes_.data() + index * sum_lanes; }
  void clear() { std::fill(lanes_.begin(), lanes_.end(), 0.0); }
  double total(std::int64_t index) const {
    const double* const first = lanes_.data() + index * sum_lanes;
    return std::accumulate(first, first + sum_lanes, 0.0);
  }

 private:
  std::vector<double> lanes_;
};

// Their totals over all segments, whose rounding does not grow with the number of these.
class Totals {
 public:
  explicit Totals(std::int64_t count) : sums_(static_cast<std::size_t>(count)) {}

  void add(const LaneSums& segment) {
    for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i].add(segment.total(static_cast<std::int64_t>(i)));
  }
  void add(const Totals& other) {
    for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i].add(other.sums_[i]);
  }
  const CompensatedSum& operator[](std::int64_t index) const { return sums_[static_cast<std::size_t>(index)]; }

 private:
  std::vector<CompensatedSum> sums_;
};

// Of one basis: the squared coefficient of each vector and, behind them, the squared residual, and the energy of rows
// whose residual is in expanded form.
template <class Sums>
struct BasisSums {
  explicit BasisSums(std::int64_t vectors) : vector_count(vectors), raw(vectors + 2), unit(vectors + 2) {}

  void clear() {
    raw.clear();
    unit.clear();
  }
  template <class Other>
  void add(const BasisSums<Other>& other) {
    raw.add(other.raw);
    unit.add(other.unit);
  }

  std::int64_t vector_count;
  Sums raw;
  Sums unit;
};

// Adds the residual with the leading 0..k vectors: no digit is lost where squares of trailing coefficients are added.
inline void add_leading(const Totals& squares, std::int64_t vectors, double* sums) {
  CompensatedSum residual = squares[vectors];
  sums[vectors] += residual.total();
  for (std::int64_t k = vectors; k > 0; --k) {
    residual.add(squares[k - 1]);
    sums[k - 1] += residual.total();
  }
}

// Of all bases and the prediction: squares of its errors, and of the rows.
template <class Sums>
struct ResidualSums {
  ResidualSums(const std::vector<BasisJob>& jobs, std::int64_t outputs) : errors(outputs), energies(1) {
    for (const BasisJob& job : jobs) bases.emplace_back(job.vectors);
  }

  void clear() {
    for (BasisSums<Sums>& sums : bases) sums.clear();
    errors.clear();
    energies.clear();
  }
  template <class Other>
  void add(const ResidualSums<Other>& other) {
    for (std::size_t j = 0; j < bases.size(); ++j) bases[j].add(other.bases[j]);
    errors.add(other.errors);
    energies.add(other.energies);
  }

  std::vector<BasisSums<Sums>> bases;
  Sums errors;
  Sums energies;
};

}  // namespace nrc_fast
