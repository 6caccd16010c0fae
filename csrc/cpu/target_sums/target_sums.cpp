#include "cpu/target_sums/target_sums.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/arithmetic.h"
#include "cpu/machine/isa.h"
#include "cpu/machine/rows.h"

namespace nrc_fast {
namespace {

// Rows of a block, whose sums are added to others as pairs, and the stride of its columns, which keeps them apart in
// the cache.
constexpr std::int64_t target_rows = 256;
constexpr std::int64_t target_stride = target_rows + sum_lanes;
// About what a product of two numbers costs, and a number, in additions.
constexpr double product_operations = 12.0;
constexpr double number_operations = 30.0;

struct Pair {
  double high = 0.0;
  double low = 0.0;
};

Pair two_sum(double a, double b) {
  const double sum = a + b;
  const double other = sum - a;
  return {sum, (a - (sum - other)) + (b - other)};
}

Pair added(Pair a, Pair b) {
  const Pair high = two_sum(a.high, b.high);
  const Pair low = two_sum(a.low, b.low);
  const Pair sum = two_sum(high.high, high.low + low.high);
  return two_sum(sum.high, sum.low + low.low);
}

// Scratch of one thread, and its sums: of each column, then of each product of two.
struct TargetSpace {
  explicit TargetSpace(std::int64_t n)
      : rows(target_rows * n * 8, Contents::anything),
        values(target_stride * n * 8, Contents::anything),
        rests(target_stride * n * 8, Contents::anything),
        sums((n + n * (n + 1) / 2) * target_sum_size * 8) {}

  Pair total(std::int64_t place) const {
    const double* const high = sums.as<double>() + place * target_sum_size;
    Pair found;
    for (std::int64_t lane = 0; lane < sum_lanes; ++lane) found = added(found, {high[lane], high[lane + sum_lanes]});
    return found;
  }

  Buffer rows;    // [row][column]
  Buffer values;  // [column][row]
  Buffer rests;
  Buffer sums;
};

class TargetPass {
 public:
  explicit TargetPass(const TargetSumsRequest& request)
      : request_(request),
        n_(request.targets.columns),
        shift_(static_cast<std::size_t>(n_)),
        none_(static_cast<std::size_t>(n_)) {
    for (std::int64_t c = 0; request.shift != nullptr && c < n_; ++c)
      shift_[static_cast<std::size_t>(c)] = request.shift[c];
  }

  TargetTotals run() {
    const std::int64_t count = request_.targets.rows;
    const auto n = static_cast<double>(n_);
    const double operations =
        static_cast<double>(count) * n * (number_operations + product_operations * (n + 1.0) / 2.0);
    std::vector<TargetSpace> spaces;
    for (int p = parts_for(operations, count, thread_count()); p > 0; --p) spaces.emplace_back(n_);
    const int parts = static_cast<int>(spaces.size());
    parallel_for(parts, [&](int p) { add_rows(share(count, parts, p), spaces[static_cast<std::size_t>(p)]); });
    const std::vector<Pair> totals = totals_of(spaces);
    TargetTotals found;
    found.energy = energy_of(totals);
    // Whatever is not finite leaves its mark on the square of its column.
    if (!std::isfinite(found.energy)) count_nonfinite(found.counts);
    if (are_usable(found.counts)) write(totals);
    return found;
  }

 private:
  void add_rows(Range rows, TargetSpace& space) const {
    const TargetKernels& kernels = current_kernels().targets();
    for (std::int64_t first = rows.first; first < rows.last; first += target_rows) {
      const std::int64_t count = std::min(target_rows, rows.last - first);
      const std::int64_t padded = round_up(count, sum_lanes);
      load_as_double(request_.targets, first, count, none_.data(), space.rows.as<double>());
      for (std::int64_t c = 0; c < n_; ++c) {
        const double* source = space.rows.as<double>() + c;
        double* const values = space.values.as<double>() + c * target_stride;
        for (std::int64_t r = 0; r < count; ++r, source += n_) values[r] = *source;
        // Rows that are the shift add nothing.
        std::fill(values + count, values + padded, shift_[static_cast<std::size_t>(c)]);
      }
      kernels.add({space.values.as<double>(), space.rests.as<double>(), target_stride, padded, n_, shift_.data(),
                   space.sums.as<double>()});
    }
  }

  std::vector<Pair> totals_of(const std::vector<TargetSpace>& spaces) const {
    std::vector<Pair> totals(static_cast<std::size_t>(n_ + n_ * (n_ + 1) / 2));
    for (const TargetSpace& space : spaces) {
      for (std::size_t i = 0; i < totals.size(); ++i) {
        totals[i] = added(totals[i], space.total(static_cast<std::int64_t>(i)));
      }
    }
    return totals;
  }

  double energy_of(const std::vector<Pair>& totals) const {
    double energy = 0.0;
    for (std::int64_t i = 0; i < n_; ++i) energy += totals[static_cast<std::size_t>(n_ + i * (i + 1) / 2 + i)].high;
    return energy;
  }

  void count_nonfinite(ReadCounts& counts) const {
    std::vector<double> row(static_cast<std::size_t>(n_));
    for (std::int64_t r = 0; r < request_.targets.rows; ++r) {
      load_as_double(request_.targets, r, 1, none_.data(), row.data());
      if (!std::all_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); })) {
        merge(counts, nonfinite_row(r));
      }
    }
  }

  static void put(Pair found, double* high, double* low, const double* high_onto, const double* low_onto,
                  std::int64_t place) {
    if (high_onto != nullptr) found = added({high_onto[place], low_onto[place]}, found);
    high[place] = found.high;
    low[place] = found.low;
  }

  void write(const std::vector<Pair>& totals) const {
    const TargetSums<double>& found = request_.found;
    const TargetSums<const double>& onto = request_.onto;
    std::size_t next = 0;
    for (std::int64_t i = 0; i < n_; ++i)
      put(totals[next++], found.sums, found.sums_rest, onto.sums, onto.sums_rest, i);
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        const Pair entry = j <= i ? totals[next++] : Pair{};
        put(entry, found.gram, found.gram_rest, onto.gram, onto.gram_rest, i * n_ + j);
      }
    }
  }

  const TargetSumsRequest& request_;
  std::int64_t n_;
  std::vector<double> shift_;
  std::vector<double> none_;
};

}  // namespace

TargetTotals target_sums(const TargetSumsRequest& request) { return TargetPass(request).run(); }

}  // namespace nrc_fast
