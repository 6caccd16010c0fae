#include "cpu/gram/check_pairs.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/arithmetic.h"
#include "cpu/machine/buffer.h"

namespace nrc_fast {
namespace {

// An odd number of rows, and a panel beside a narrow one.
constexpr std::int64_t check_rows = 171;
constexpr std::int64_t check_columns = 61;

// Of both kernels together, relative to the norms of the columns: a few roundings for each row, were they all to one
// side.
constexpr double allowed_error = 0x1p-18;

std::uint16_t rounded_to_bfloat16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

// The same numbers everywhere; every third column lies around 5, far from 0 against its spread.
struct Block {
  explicit Block(std::int64_t padded)
      : rows(static_cast<std::size_t>(check_rows * check_columns)),
        shift_high(static_cast<std::size_t>(padded)),
        shift_low(static_cast<std::size_t>(padded)) {
    std::uint32_t state = 1;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      state = state * 1664525U + 1013904223U;
      const float uniform = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
      const bool is_far = i % check_columns % 3 == 0;
      rows[i] = rounded_to_bfloat16(is_far ? 5.0F + 0.5F * uniform : uniform);
    }
    for (std::size_t c = 0; c < check_columns; ++c) shift_high[c] = c % 3 == 0 ? 5.015F : 0.25F;
  }

  std::vector<std::uint16_t> rows;
  std::vector<float> shift_high;
  std::vector<float> shift_low;
};

class Check {
 public:
  Check(const PairKernels& pairs, const GramKernels& plain)
      : pairs_(pairs),
        plain_(plain),
        panels_(ceiling(check_columns, plain.panel_width)),
        padded_(round_up(check_columns, plain.panel_step)),
        block_(padded_),
        packed_(check_rows * padded_ * plain.element_size, Contents::anything),
        sums_(padded_ * plain.element_size),
        pairs_packed_(round_up(check_rows, pairs.row_step) * padded_ * pairs.element_size, Contents::anything),
        offsets_(2 * padded_ * 8, Contents::anything),
        paired_tile_(tile_bytes()),
        plain_tile_(tile_bytes()) {}

  bool run() {
    const PackArguments arguments = {block_.rows.data(),
                                     check_columns,
                                     check_rows,
                                     check_columns,
                                     0,
                                     panels_,
                                     block_.shift_high.data(),
                                     block_.shift_low.data(),
                                     nullptr,
                                     false,
                                     nullptr,
                                     packed_.get(),
                                     sums_.get()};
    plain_.pack[static_cast<int>(DType::bfloat16)](arguments);
    if (!pairs_.pack({arguments, pairs_packed_.get(), offsets_.as<double>(), offsets_.as<double>() + padded_})) {
      return false;
    }
    std::vector<double> norms;
    bool is_right = true;
    for (std::int64_t left = 0; left < panels_; ++left) {
      fill_tiles(left, left);
      append_norms(norms);
    }
    for (std::int64_t left = 0; left < panels_; ++left) {
      for (std::int64_t right = 0; right <= left; ++right) {
        fill_tiles(left, right);
        is_right = is_right && tiles_agree(left, right, norms);
      }
    }
    return is_right;
  }

 private:
  std::int64_t tile_bytes() const { return plain_.panel_width * plain_.panel_width * 8; }

  void fill_tiles(std::int64_t left, std::int64_t right) {
    RowsAhead ahead;
    double* const tile = plain_tile_.as<double>();
    plain_.tile({packed_.get(), check_rows, check_columns, left, right, tile, true}, ahead);
    pairs_.tile(
        {{pairs_packed_.get(), (check_rows + 1) / 2, check_columns, left, right, paired_tile_.as<double>(), true},
         offsets_.as<double>(),
         offsets_.as<double>() + padded_},
        ahead);
  }

  void append_norms(std::vector<double>& norms) const {
    for (std::int64_t c = 0; c < plain_.panel_width; ++c) {
      norms.push_back(std::sqrt(plain_tile_.as<double>()[c * (plain_.panel_width + 1)]));
    }
  }

  bool tiles_agree(std::int64_t left, std::int64_t right, const std::vector<double>& norms) const {
    const std::int64_t width = plain_.panel_width;
    for (std::int64_t i = left * width; i < std::min((left + 1) * width, check_columns); ++i) {
      for (std::int64_t j = right * width; j < std::min((right + 1) * width, i + 1); ++j) {
        const std::int64_t place = (i - left * width) * width + j - right * width;
        const double error = std::fabs(paired_tile_.as<double>()[place] - plain_tile_.as<double>()[place]);
        const double norm = norms[static_cast<std::size_t>(i)] * norms[static_cast<std::size_t>(j)];
        if (!(error <= allowed_error * norm)) return false;
      }
    }
    return true;
  }

  const PairKernels& pairs_;
  const GramKernels& plain_;
  std::int64_t panels_;
  std::int64_t padded_;
  Block block_;
  Buffer packed_;
  Buffer sums_;
  Buffer pairs_packed_;
  Buffer offsets_;
  Buffer paired_tile_;
  Buffer plain_tile_;
};

}  // namespace

bool pairs_are_right(const PairKernels& pairs, const GramKernels& plain) { return Check(pairs, plain).run(); }

}  // namespace nrc_fast
