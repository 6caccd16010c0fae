// Rows of a pass: with unit column stride, read from files, and how they are shared out.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/arithmetic.h"
#include "cpu/machine/buffer.h"
#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"
#include "cpu/machine/thread_pool.h"

namespace nrc_fast {

struct Range {
  std::int64_t first;
  std::int64_t last;
};

// Part `index` of `parts` nearly equal pieces of 0..count.
inline Range share(std::int64_t count, int parts, int index) {
  const std::int64_t size = count / parts;
  const std::int64_t extra = count % parts;
  const std::int64_t first = index * size + std::min<std::int64_t>(index, extra);
  return {first, first + size + (index < extra ? 1 : 0)};
}

// As many parts as there are threads, but none with so little work that waking a thread costs more.
inline int parts_for(double operations, std::int64_t rows, int threads) {
  const double wanted = std::min({operations / least_work(), static_cast<double>(rows), static_cast<double>(threads)});
  return std::max(1, static_cast<int>(wanted));
}

struct RowBlock {
  const void* rows;
  std::int64_t row_stride;
};

// Rows of a matrix whose columns are apart are gathered, a tile of rows and columns at a time, so that neither
// the source nor the target is walked with a long stride throughout.
template <class Bits>
void gather_columns(const Matrix& matrix, std::int64_t first, std::int64_t count, Range columns, void* target) {
  constexpr std::int64_t tile = 32;
  const Bits* const source = static_cast<const Bits*>(static_cast<const void*>(matrix.row(first)));
  Bits* const gathered = static_cast<Bits*>(target);
  for (std::int64_t row = 0; row < count; row += tile) {
    for (std::int64_t column = columns.first; column < columns.last; column += tile) {
      for (std::int64_t c = column; c < std::min(column + tile, columns.last); ++c) {
        for (std::int64_t r = row; r < std::min(row + tile, count); ++r) {
          gathered[r * matrix.columns + c] = source[r * matrix.row_stride + c * matrix.column_stride];
        }
      }
    }
  }
}

inline bool needs_gathering(const Matrix& matrix) {
  return matrix.is_in_file() || (matrix.column_stride != 1 && matrix.columns > 1);
}

// Reads whole rows from a file; what cannot be read is zero and noted.
inline void read_rows(const Matrix& matrix, std::int64_t first, std::int64_t count, char* target, ReadCounts& counts) {
  const std::int64_t bytes = count * matrix.row_bytes();
  const std::int64_t offset = matrix.offset + first * matrix.row_bytes();
  std::int64_t done = 0;
  while (done < bytes) {
    const ssize_t part = pread(matrix.file, target + done, static_cast<std::size_t>(bytes - done), offset + done);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) {
      std::memset(target + done, 0, static_cast<std::size_t>(bytes - done));
      ReadCounts failure;
      failure.first_unread = first + done / matrix.row_bytes();
      failure.read_error = part < 0 ? errno : 0;
      return merge(counts, failure);
    }
    done += part;
  }
}

inline void gather(const Matrix& matrix, std::int64_t first, std::int64_t count, Range columns, void* target) {
  switch (size_of(matrix.dtype)) {
    case 8:
      return gather_columns<std::uint64_t>(matrix, first, count, columns, target);
    case 4:
      return gather_columns<std::uint32_t>(matrix, first, count, columns, target);
    default:
      return gather_columns<std::uint16_t>(matrix, first, count, columns, target);
  }
}

template <class Stored, class Convert>
void convert_rows(const MatrixView& matrix, std::int64_t first, std::int64_t count, const double* shift, double* values,
                  const Convert& convert) {
  const std::int64_t step = matrix.column_stride * static_cast<std::int64_t>(sizeof(Stored));
  for (std::int64_t r = 0; r < count; ++r, values += matrix.columns) {
    const char* const row = matrix.row(first + r);
    for (std::int64_t c = 0; c < matrix.columns; ++c) values[c] = convert(read_as<Stored>(row + c * step)) - shift[c];
  }
}

// `count` rows as float64, less the shift: for the few columns that targets have.
inline void load_as_double(const MatrixView& matrix, std::int64_t first, std::int64_t count, const double* shift,
                           double* values) {
  switch (matrix.dtype) {
    case DType::float64:
      return convert_rows<double>(matrix, first, count, shift, values, [](double value) { return value; });
    case DType::float32:
      return convert_rows<float>(matrix, first, count, shift, values,
                                 [](float value) { return static_cast<double>(value); });
    case DType::float16:
      return convert_rows<std::uint16_t>(matrix, first, count, shift, values, float16_value);
    default:
      return convert_rows<std::uint16_t>(matrix, first, count, shift, values, bfloat16_value);
  }
}

// One thread's way to the rows of a matrix with unit column stride: in place where they have it, else gathered, or
// read from their file into a buffer that stays in the cache.
class RowReader {
 public:
  RowReader(const Matrix& matrix, std::int64_t most_rows) : capacity_(most_rows) {
    if (!needs_gathering(matrix)) return;
    if (matrix.is_in_file()) capacity_ = std::max(most_rows, least_read_bytes / matrix.row_bytes());
    buffer_ = Buffer(capacity_ * matrix.row_bytes(), Contents::anything);
  }

  // `count` rows from `first` on, at most `most_rows`. Rows up to `last` may be read with them.
  RowBlock rows(const Matrix& matrix, std::int64_t first, std::int64_t count, std::int64_t last, ReadCounts& counts) {
    if (!needs_gathering(matrix)) return {matrix.row(first), matrix.row_stride};
    if (!matrix.is_in_file()) {
      gather(matrix, first, count, {0, matrix.columns}, buffer_.get());
      return {buffer_.get(), matrix.columns};
    }
    if (first < held_.first || first + count > held_.last) {
      held_ = {first, std::min(first + capacity_, last)};
      read_rows(matrix, first, held_.last - first, buffer_.as<char>(), counts);
    }
    return {buffer_.as<char>() + (first - held_.first) * matrix.row_bytes(), matrix.columns};
  }

  char* buffer() const { return buffer_.as<char>(); }

 private:
  // A call of the system costs about as much as copying a tenth of this.
  static constexpr std::int64_t least_read_bytes = 128 << 10;

  std::int64_t capacity_;
  Range held_{0, 0};
  Buffer buffer_;
};

// A float64 shift as the sum of two numbers of the type that is computed with, padded with zeros.
struct Shift {
  Shift(const double* values, std::int64_t columns, std::int64_t padded, std::int64_t element_size)
      : high(padded * element_size), low(padded * element_size) {
    if (values == nullptr) return;
    for (std::int64_t c = 0; c < columns; ++c) {
      if (element_size == 8) {
        high.as<double>()[c] = values[c];
      } else {
        const HighAndLow<float> parts = high_and_low<float>(values[c]);
        high.as<float>()[c] = parts.high;
        low.as<float>()[c] = parts.low;
      }
    }
  }

  Buffer high;
  Buffer low;
};

}  // namespace nrc_fast
