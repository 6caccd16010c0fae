// Where the tiles of a Gram matrix go: what they are put onto, the matrix itself, and its trace.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/gram/order.h"
#include "cpu/machine/rows.h"

namespace nrc_fast {

class GramOutput {
 public:
  // Without a matrix there is nothing to write. `onto` may be null, for zeros.
  GramOutput(double* gram, const double* onto, std::int64_t columns, std::int64_t panel_width)
      : gram_(gram), onto_(onto), columns_(columns), width_(panel_width) {}

  bool is_wanted() const { return gram_ != nullptr; }

  // The sum of one tile of several parts, below the diagonal, and what lies opposite of it, where nothing is added.
  void write(const TilePair& pair, const double* const* tiles, std::size_t parts) const {
    const Range left = columns_of(pair.left);
    const Range right = columns_of(pair.right);
    for (std::int64_t i = left.first; i < left.last; ++i) {
      const std::int64_t offset = (i - left.first) * width_;
      const std::int64_t start = i * columns_ + right.first;
      const std::int64_t count = std::min(right.last, i + 1) - right.first;
      const double* sum = tiles[0] + offset;
      const auto add = [&](const double* other) {
        put_sum(sum, other, count, gram_ + start);
        sum = gram_ + start;
      };
      for (std::size_t t = 1; t < parts; ++t) add(tiles[t] + offset);
      if (onto_ != nullptr) add(onto_ + start);
      if (sum != gram_ + start) copy(sum, count, gram_ + start);
    }
    for (std::int64_t i = right.first; i < right.last; ++i) {
      const std::int64_t first = std::max(left.first, i + 1);
      const std::int64_t start = i * columns_ + first;
      copy(onto_ != nullptr ? onto_ + start : nullptr, left.last - first, gram_ + start);
    }
  }

  // What a tile has of the trace.
  double trace(const TilePair& pair, const double* tile) const {
    const Range columns = columns_of(pair.left);
    double sum = 0.0;
    for (std::int64_t i = 0; pair.left == pair.right && i < columns.last - columns.first; ++i) {
      sum += tile[i * (width_ + 1)];
    }
    return sum;
  }

 private:
  Range columns_of(std::int64_t panel) const { return {panel * width_, std::min((panel + 1) * width_, columns_)}; }

  static void put_sum(const double* first, const double* second, std::int64_t count, double* target) {
    for (std::int64_t i = 0; i < count; ++i) target[i] = first[i] + second[i];
  }

  // Zeros if there is nothing to copy.
  static void copy(const double* source, std::int64_t count, double* target) {
    if (count <= 0) return;
    if (source != nullptr) {
      std::memcpy(target, source, static_cast<std::size_t>(count) * 8);
    } else {
      std::memset(target, 0, static_cast<std::size_t>(count) * 8);
    }
  }

  double* gram_;
  const double* onto_;
  std::int64_t columns_;
  std::int64_t width_;
};

}  // namespace nrc_fast
