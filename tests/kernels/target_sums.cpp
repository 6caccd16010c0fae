// Sums of targets as pairs against arithmetic of 113 bits, with the kernel that this compilation has; compiled and run
// by test_neon.py for another processor, whose compiler contracts products where it may.
#include "cpu/target_sums/target_sums.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cpu/machine/isa.h"

#if defined(NRC_FAST_NEON)
#define NRC_FAST_TESTED neon
#else
#define NRC_FAST_TESTED baseline
#endif
#if defined(__aarch64__)
using Long = long double;
#else
using Long = __float128;
#endif

namespace nrc_fast {

namespace NRC_FAST_TESTED {
const TargetKernels& target_kernels();
}  // namespace NRC_FAST_TESTED

// In place of isa.cpp, so that only this kernel is compiled.
const KernelTable& current_kernels() {
  static const KernelTable table = [] {
    KernelTable targets_alone{};
    targets_alone.name = "tested";
    targets_alone.targets = NRC_FAST_TESTED::target_kernels;
    return targets_alone;
  }();
  return table;
}

}  // namespace nrc_fast

namespace {

bool is_wrong(double high, double low, Long sum, Long size) {
  const Long error = sum - static_cast<Long>(high) - static_cast<Long>(low);
  const Long most = size * static_cast<Long>(std::ldexp(1.0, -96));  // 2^10 squares of the unit roundoff
  return !(error <= most && -error <= most) || !(std::fabs(low) <= std::ldexp(std::fabs(high), -53));
}

int wrong_sums(std::int64_t rows, std::int64_t columns) {
  std::vector<double> targets;
  std::vector<double> shift;
  std::uint64_t state = 1;
  const auto next = [&state] {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return std::ldexp(static_cast<double>(state >> 11), -53) - 0.5;
  };
  for (std::int64_t c = 0; c < columns; ++c) shift.push_back(1e3 * next());
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    targets.push_back(shift[static_cast<std::size_t>(i % columns)] + next());
  }
  const auto square = static_cast<std::size_t>(columns * columns);
  std::vector<double> gram(square);
  std::vector<double> gram_rest(square);
  std::vector<double> sums(shift.size());
  std::vector<double> sums_rest(shift.size());
  nrc_fast::TargetSumsRequest request;
  request.targets = {targets.data(), rows, columns, columns, 1, nrc_fast::DType::float64};
  request.shift = shift.data();
  request.found = {gram.data(), gram_rest.data(), sums.data(), sums_rest.data()};
  nrc_fast::target_sums(request);
  const auto value = [&](std::int64_t row, std::int64_t column) {
    return static_cast<Long>(targets[static_cast<std::size_t>(row * columns + column)]) -
           static_cast<Long>(shift[static_cast<std::size_t>(column)]);
  };
  int wrong = 0;
  for (std::int64_t i = 0; i < columns; ++i) {
    for (std::int64_t j = -1; j <= i; ++j) {
      Long sum = 0;
      Long size = 0;
      for (std::int64_t row = 0; row < rows; ++row) {
        const Long term = j < 0 ? value(row, i) : value(row, i) * value(row, j);
        sum += term;
        size += term < 0 ? -term : term;
      }
      const auto place = static_cast<std::size_t>(j < 0 ? i : i * columns + j);
      if (is_wrong(j < 0 ? sums[place] : gram[place], j < 0 ? sums_rest[place] : gram_rest[place], sum, size)) ++wrong;
    }
  }
  return wrong;
}

}  // namespace

int main() {
  int wrong = 0;
  int shapes = 0;
  for (std::int64_t columns = 1; columns <= 5; ++columns) {
    for (const std::int64_t rows : {1, 7, 8, 9, 255, 256, 257, 600}) {
      wrong += wrong_sums(rows, columns);
      ++shapes;
    }
  }
  std::printf("%d shapes, %d wrong sums\n", shapes, wrong);
  return wrong == 0 ? 0 : 1;
}
