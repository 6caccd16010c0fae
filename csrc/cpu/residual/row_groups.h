// Rows in groups that fit a thread's scratch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/machine/rows.h"

namespace nrc_fast {

// Sums are taken over this many rows and then added up, so that rounding to one side does not grow with all rows.
constexpr std::int64_t segment_rows = 4096;

struct RowGroup {
  const char* rows;
  std::int64_t row_stride;
  std::int64_t first;
  std::int64_t count;
};

// Walks rows first..last in groups that fit the scratch.
template <class Space, class Visit>
void for_each_group(const Matrix& features, Range rows, Space& space, const Visit& visit) {
  const bool gathers = needs_gathering(features);
  // Whole groups, so that the groups, and with them the bits, do not depend on where the rows lie.
  const std::int64_t whole_groups = Space::gathered_rows / space.row_capacity * space.row_capacity;
  const std::int64_t step = gathers ? whole_groups : std::max<std::int64_t>(rows.last - rows.first, 1);
  for (std::int64_t first = rows.first; first < rows.last; first += step) {
    const std::int64_t count = std::min(step, rows.last - first);
    const RowBlock block = space.reader.rows(features, first, count, rows.last, space.counts);
    for (std::int64_t r = 0; r < count; r += space.row_capacity) {
      visit({static_cast<const char*>(block.rows) + r * block.row_stride * size_of(features.dtype), block.row_stride,
             first + r, std::min(space.row_capacity, count - r)});
    }
  }
}

}  // namespace nrc_fast
