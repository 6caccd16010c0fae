// A pass whose every thread adds to its own copy of some float64 results.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/machine/thread_pool.h"
#include "cpu/residual/row_groups.h"

namespace nrc_fast {

// How many parts the rows are shared out to, for products with so many vectors there and back.
inline int product_parts(const Matrix& features, std::int64_t vectors) {
  const double operations =
      static_cast<double>(features.rows) * static_cast<double>(features.columns) * static_cast<double>(4 * vectors);
  return parts_for(operations, features.rows, thread_count());
}

// A part of the rows for each space. `visit` adds a group of rows to sums over a segment; no result changes when a row
// is not finite.
template <class Space, class Visit>
ReadCounts summed_pass(const Matrix& features, std::vector<Space>& spaces, std::int64_t size, double* results,
                       const Visit& visit) {
  const int parts = static_cast<int>(spaces.size());
  std::vector<Buffer> sums;
  std::vector<Buffer> segments;
  for (int p = 0; p < parts; ++p) {
    sums.emplace_back(size * 8);
    segments.emplace_back(size * 8, Contents::anything);
  }
  parallel_for(parts, [&](int p) {
    const auto index = static_cast<std::size_t>(p);
    const Range rows = share(features.rows, parts, p);
    double* const totals = sums[index].as<double>();
    double* const segment = segments[index].as<double>();
    for (std::int64_t first = rows.first; first < rows.last; first += segment_rows) {
      std::fill_n(segment, size, 0.0);
      for_each_group(features, {first, std::min(first + segment_rows, rows.last)}, spaces[index],
                     [&](const RowGroup& group) { visit(group, spaces[index], segment); });
      for (std::int64_t i = 0; i < size; ++i) totals[i] += segment[i];
    }
  });
  ReadCounts counts;
  for (const Space& space : spaces) merge(counts, space.counts);
  for (std::size_t p = 0; are_usable(counts) && p < sums.size(); ++p) {
    for (std::int64_t i = 0; i < size; ++i) results[i] += sums[p].as<double>()[i];
  }
  return counts;
}

}  // namespace nrc_fast
