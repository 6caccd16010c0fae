// The tiles below the diagonal, in the order in which they are filled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/machine/rows.h"

namespace nrc_fast {

struct TilePair {
  std::int64_t left;
  std::int64_t right;
};

// Pairs of panels, right <= left, square group by square group: the panels and the tiles of one group stay in the
// cache while several blocks of rows go through it.
class TileOrder {
 public:
  TileOrder(std::int64_t panels, std::int64_t group_panels) {
    for (std::int64_t left = 0; left < panels; left += group_panels) {
      for (std::int64_t right = 0; right <= left; right += group_panels) {
        firsts_.push_back(size());
        add_group({left, std::min(left + group_panels, panels)}, {right, right + group_panels});
      }
    }
    firsts_.push_back(size());
  }

  std::int64_t size() const { return static_cast<std::int64_t>(pairs_.size()); }
  const TilePair& operator[](std::int64_t index) const { return pairs_[static_cast<std::size_t>(index)]; }

  // Calls task(range) for the part of each group that lies in `range`.
  template <class Task>
  void for_each_group(Range range, const Task& task) const {
    auto group = std::upper_bound(firsts_.begin(), firsts_.end(), range.first);
    for (; range.first < range.last; ++group) {
      const std::int64_t last = std::min(*group, range.last);
      task(Range{range.first, last});
      range.first = last;
    }
  }

 private:
  void add_group(Range left_panels, Range right_panels) {
    for (std::int64_t left = left_panels.first; left < left_panels.last; ++left) {
      for (std::int64_t right = right_panels.first; right < std::min(right_panels.last, left + 1); ++right) {
        pairs_.push_back({left, right});
      }
    }
  }

  std::vector<TilePair> pairs_;
  std::vector<std::int64_t> firsts_;  // of each group, and the end
};

}  // namespace nrc_fast
