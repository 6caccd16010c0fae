// Products of rows with a few vectors in float64 on the CPU, and of these with the rows: one step of subspace
// iteration.
#pragma once

#include "common/requests.h"
#include "cpu/machine/matrix.h"
#include "cpu/machine/row_counts.h"

namespace nrc_fast {

using ProductRequest = ProductFields<Matrix>;

// No sum changes when a row is not finite.
ReadCounts gram_product(const ProductRequest& request, const GramProduct& sums);

}  // namespace nrc_fast
