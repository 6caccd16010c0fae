// The Gram of every width from 1 to 40 against plain sums, with the tiles that this compilation has; compiled and run
// by test_compilers.py with the address sanitizer, for numbers of registers that the machine may not have, and by
// test_neon.py for another processor.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "cpu/gram/gram.h"
#include "cpu/machine/isa.h"

#if defined(NRC_FAST_NEON)
#define NRC_FAST_TESTED neon
#else
#define NRC_FAST_TESTED baseline
#endif

namespace nrc_fast {

namespace NRC_FAST_TESTED {
const RowKernels& row_kernels();
const GramKernels& gram_float32();
const GramKernels& gram_float64();
}  // namespace NRC_FAST_TESTED

// In place of isa.cpp, so that only the kernels of the Gram are compiled.
const KernelTable& current_kernels() {
  static const KernelTable table = [] {
    KernelTable gram_alone{};
    gram_alone.name = "tested";
    gram_alone.rows = NRC_FAST_TESTED::row_kernels;
    gram_alone.gram_float32 = NRC_FAST_TESTED::gram_float32;
    gram_alone.gram_float64 = NRC_FAST_TESTED::gram_float64;
    return gram_alone;
  }();
  return table;
}

}  // namespace nrc_fast

namespace {

template <class T>
int wrong_sums(nrc_fast::DType dtype, std::int64_t columns) {
  constexpr std::int64_t rows = 37;
  std::vector<T> features;
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    state = state * 1664525U + 1013904223U;
    features.push_back(static_cast<T>(static_cast<double>(state >> 16) / 65536.0 - 0.5));
  }
  std::vector<double> gram(static_cast<std::size_t>(columns * columns));
  nrc_fast::GramRequest request;
  request.features.data = reinterpret_cast<const char*>(features.data());
  request.features.rows = rows;
  request.features.columns = columns;
  request.features.row_stride = columns;
  request.features.dtype = dtype;
  request.gram = gram.data();
  nrc_fast::gram(request);
  int wrong = 0;
  for (std::int64_t i = 0; i < columns; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = 0.0;
      double magnitude = 0.0;
      for (std::int64_t row = 0; row < rows; ++row) {
        const double product = static_cast<double>(features[static_cast<std::size_t>(row * columns + i)]) *
                               static_cast<double>(features[static_cast<std::size_t>(row * columns + j)]);
        sum += product;
        magnitude += std::fabs(product);
      }
      const double error = std::fabs(gram[static_cast<std::size_t>(i * columns + j)] - sum);
      if (!(error <= rows * std::numeric_limits<T>::epsilon() * magnitude)) ++wrong;
    }
  }
  return wrong;
}

}  // namespace

int main() {
  int wrong = 0;
  int widths = 0;
  for (std::int64_t columns = 1; columns <= 40; ++columns, ++widths) {
    wrong += wrong_sums<float>(nrc_fast::DType::float32, columns);
    wrong += wrong_sums<double>(nrc_fast::DType::float64, columns);
  }
  std::printf("%d widths, %d wrong sums\n", widths, wrong);
  return wrong == 0 ? 0 : 1;
}
