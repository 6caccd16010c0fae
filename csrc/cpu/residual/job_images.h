// What one basis of the residual pass is given of its rows, beside sums of squares: sums of numbers times the rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/arithmetic.h"
#include "cpu/residual/projection.h"
#include "cpu/residual/residual.h"

namespace nrc_fast {

// Of one thread. What rows are multiplied with are units: those of the raw image, of the unit image, and of the shift
// sums, as far as they are wanted.
class JobImages {
 public:
  JobImages(const BasisJob& job, const ProjectionSpace& space, const Frame& frame)
      : vectors_(job.vectors),
        imaged_(job.imaged),
        raw_(job.raw_image == nullptr ? 0 : 1 + job.imaged),
        unit_(job.unit_image == nullptr ? 0 : job.imaged),
        shift_(job.shift_sums == nullptr ? 0 : 2),
        padded_(frame.padded()),
        coefficients_(space.row_capacity * units() * 8),
        segment_(units() * padded_ * 8),
        totals_(static_cast<std::size_t>(units() * padded_)) {}

  bool are_wanted() const { return units() > 0; }

  // A group of rows, whose weights, residuals and energies are those in the space, and their products with the vectors.
  void add(const ResidualKernels& kernels, const Frame& frame, std::int64_t count, const double* products,
           const ProjectionSpace& space) {
    for (std::int64_t r = 0; r < count; ++r) find_coefficients(r, products + r, space);
    kernels.add_images({static_cast<const double*>(space.loaded.get()), frame.stride(), count, padded_,
                        coefficients_.as<double>(), units(), segment_.as<double>(), padded_});
    rows_ += count;
    if (rows_ >= segment_rows) close();
  }

  // Adds the segment to the totals, and starts another.
  void close() {
    double* const segment = segment_.as<double>();
    for (std::size_t i = 0; i < totals_.size(); ++i) totals_[i].add(segment[i]);
    std::fill_n(segment, units() * padded_, 0.0);
    rows_ = 0;
  }

  void add(const JobImages& other) {
    for (std::size_t i = 0; i < totals_.size(); ++i) totals_[i].add(other.totals_[i]);
    inverse_squares_.add(other.inverse_squares_);
    inverse_fourths_.add(other.inverse_fourths_);
    zero_rows_ += other.zero_rows_;
  }

  void add_results(const BasisJob& job, std::int64_t columns) const {
    write(0, raw_, columns, job.raw_image);
    write(raw_, unit_, columns, job.unit_image);
    write(raw_ + unit_, shift_, columns, job.shift_sums);
    if (shift_ == 0) return;
    job.shift_sums[2 * columns] += inverse_squares_.total();
    job.shift_sums[2 * columns + 1] += inverse_fourths_.total();
    job.shift_sums[2 * columns + 2] += static_cast<double>(zero_rows_);
  }

 private:
  // Rows whose groups are added plainly, before these sums are added up without loss.
  static constexpr std::int64_t segment_rows = 512;

  std::int64_t units() const { return raw_ + unit_ + shift_; }

  // Of a row x that was loaded as 2^-e x: the raw image has 2^2e for its products, and what is divided by |x|^2 none.
  void find_coefficients(std::int64_t row, const double* products, const ProjectionSpace& space) {
    const int exponent = space.exponents.as<int>()[row];
    const double weight = space.unit_weights.as<double>()[row];
    double* const target = coefficients_.as<double>() + row * units();
    std::int64_t unit = 0;
    if (raw_ > 0) {
      target[unit++] = scaled(1.0, exponent);
      for (std::int64_t k = 0; k < imaged_; ++k) target[unit++] = scaled(products[k * space.padded_rows], 2 * exponent);
    }
    for (std::int64_t k = 0; k < unit_; ++k) target[unit++] = weight * products[k * space.padded_rows];
    if (shift_ == 0) return;
    const double along = scaled(weight, -exponent);
    target[unit++] = along;
    double left = space.residuals.as<double>()[row];
    for (std::int64_t k = imaged_; k < vectors_; ++k)
      left += products[k * space.padded_rows] * products[k * space.padded_rows];
    target[unit++] = weight * left * along;
    const double inverse = scaled(along, -exponent);
    inverse_squares_.add(inverse);
    inverse_fourths_.add(inverse * inverse);
    zero_rows_ += weight > 0.0 ? 0 : 1;
  }

  static double scaled(double number, int exponent) { return exponent == 0 ? number : std::ldexp(number, exponent); }

  void write(std::int64_t first, std::int64_t count, std::int64_t columns, double* target) const {
    for (std::int64_t u = 0; u < count; ++u) {
      for (std::int64_t c = 0; c < columns; ++c) {
        target[u * columns + c] += totals_[static_cast<std::size_t>((first + u) * padded_ + c)].total();
      }
    }
  }

  std::int64_t vectors_;
  std::int64_t imaged_;
  std::int64_t raw_;
  std::int64_t unit_;
  std::int64_t shift_;
  std::int64_t padded_;
  Buffer coefficients_;  // [row][unit]
  Buffer segment_;       // [unit][column]
  std::vector<CompensatedSum> totals_;
  CompensatedSum inverse_squares_;
  CompensatedSum inverse_fourths_;
  std::int64_t zero_rows_ = 0;
  std::int64_t rows_ = 0;  // in the segment
};

}  // namespace nrc_fast
