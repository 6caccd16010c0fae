// Residuals of a linear model and what its weights make of the rows, over one segment of these, and the sums of their
// products over all segments.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/arithmetic.h"
#include "cpu/machine/buffer.h"
#include "cpu/machine/kernel_table.h"

namespace nrc_fast {

class SegmentOutputs {
 public:
  // Of no outputs where products are not wanted.
  SegmentOutputs(std::int64_t outputs, std::int64_t most_rows)
      : outputs_(outputs),
        stride_(round_up(most_rows, sum_lanes)),
        residuals_(outputs * stride_ * 8),
        images_(outputs * stride_ * 8),
        products_((outputs * outputs + 1) * 8),
        totals_(static_cast<std::size_t>(outputs * outputs + 1)) {}

  double* residuals(std::int64_t output) const { return residuals_.as<double>() + output * stride_; }
  double* images(std::int64_t output) const { return images_.as<double>() + output * stride_; }

  // Adds the products and, behind them, the squares of the images of the rows that the segment has, and starts another.
  void close(const ResidualKernels& kernels, std::int64_t count) {
    if (outputs_ == 0) return;
    const std::int64_t padded = round_up(count, sum_lanes);
    for (std::int64_t t = 0; t < outputs_; ++t) {
      std::fill(residuals(t) + count, residuals(t) + padded, 0.0);
      std::fill(images(t) + count, images(t) + padded, 0.0);
    }
    double* const products = products_.as<double>();
    const std::int64_t step = most_additions * kernels.lanes;
    for (std::int64_t first = 0; first < padded; first += step) {
      const std::int64_t rows = std::min(step, padded - first);
      kernels.multiply_outputs({residuals(0) + first, images(0) + first, stride_, rows, outputs_, products});
      for (std::size_t i = 0; i < totals_.size(); ++i) totals_[i].add(products[i]);
    }
  }

  void add(const SegmentOutputs& other) {
    for (std::size_t i = 0; i < totals_.size(); ++i) totals_[i].add(other.totals_[i]);
  }

  void add_results(double* sums) const {
    for (std::size_t i = 0; i < totals_.size(); ++i) sums[i] += totals_[i].total();
  }

 private:
  // In each lane of a vector, so that what they round does not depend on how many lanes there are.
  static constexpr std::int64_t most_additions = 24;

  std::int64_t outputs_;
  std::int64_t stride_;
  Buffer residuals_;  // [output][row]
  Buffer images_;
  Buffer products_;  // of a segment
  std::vector<CompensatedSum> totals_;
};

}  // namespace nrc_fast
