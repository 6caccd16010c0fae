// The residual pass on the CPU: rows held against a few orthonormal vectors, in one read for all bases.
#pragma once

#include <vector>

#include "common/requests.h"
#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"

namespace nrc_fast {

// float64 rows are computed in float64, other rows in float32 unless `double_precision`. No sum changes when a row is
// not finite.
ReadCounts residual(const Matrix& features, const std::vector<ResidualJob>& jobs, bool double_precision);

}  // namespace nrc_fast
