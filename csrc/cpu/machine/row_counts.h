// What a pass over rows in memory or in a file has found in them, put together from its parts.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace nrc_fast {

struct ReadCounts : RowCounts {
  std::int64_t first_unread = -1;  // the smallest index of a row that its file does not give, -1 when it gives all
  int read_error = 0;              // and the error number; 0: the file ends before it
};

inline void merge(ReadCounts& counts, const ReadCounts& other) {
  counts.zero += other.zero;
  if (other.nonfinite > 0 && (counts.nonfinite == 0 || other.first_nonfinite < counts.first_nonfinite)) {
    counts.first_nonfinite = other.first_nonfinite;
  }
  counts.nonfinite += other.nonfinite;
  if (other.first_unread >= 0 && (counts.first_unread < 0 || other.first_unread < counts.first_unread)) {
    counts.first_unread = other.first_unread;
    counts.read_error = other.read_error;
  }
}

inline ReadCounts nonfinite_row(std::int64_t index) {
  ReadCounts counts;
  counts.nonfinite = 1;
  counts.first_nonfinite = index;
  return counts;
}

// Whether sums over the rows mean anything.
inline bool are_usable(const ReadCounts& counts) { return counts.nonfinite == 0 && counts.first_unread < 0; }

}  // namespace nrc_fast
