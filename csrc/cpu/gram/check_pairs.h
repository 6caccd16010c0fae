// Whether the pairs of a processor multiply right: nobody may have run its kernels before.
#pragma once

#include "cpu/machine/kernel_table.h"

namespace nrc_fast {

// Multiplies a small block with both, and compares.
bool pairs_are_right(const PairKernels& pairs, const GramKernels& plain);

}  // namespace nrc_fast
