// What goes before a Gram kernel: norms and counts of rows, sums over columns, and planes of 16-bit numbers.
#pragma once

#include "cuda/gram_slabs.h"

namespace nrc_fast::cuda {

// inverse_norms (null or one for each row) = 1 / ||h - shift||, 0 for a row that is 0; adds to the counts. A row counts
// as zero by its features as they are stored, and as not finite also by its targets, of which there may be none.
// Of a norm below 2^-1022 the inverse is infinite.
void row_norms(const DeviceRows& features, const double* shift, const DeviceRows& targets, std::int64_t first_row,
               double* inverse_norms, DeviceCounts* counts, Stream stream);

// Parts of the rows whose sums are formed apart.
std::int64_t column_sum_parts(std::int64_t rows, std::int64_t columns, std::int64_t multiprocessors);
// column_sums (null or d) += sum (h - s), cross (n x d) += sum (y - t)(h - s)^T, unless a row is not finite.
// `partial` holds column_sum_parts x (1 + n) x d numbers.
struct ColumnSumTask {
  DeviceRows features;
  const double* shift;
  DeviceRows targets;
  const double* target_shift;
  double* column_sums;
  double* cross;
  double* partial;
  std::int64_t parts;
  const DeviceCounts* counts;
};
void add_column_sums(const ColumnSumTask& task, Stream stream);

// Planes whose sum is (h - shift) * scale, rounded to 8 bits for each of them, or copies of the 16-bit rows.
enum class PlaneContent : int { split = 0, rounded = 1, copied = 2 };
void write_planes(const ScaledRows& rows, PlaneContent content, std::uint16_t* planes, std::int64_t row_stride,
                  std::int64_t plane_stride, std::int64_t multiprocessors, Stream stream);

}  // namespace nrc_fast::cuda
