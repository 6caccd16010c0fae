// How the kernels of this module are compiled.
#pragma once

namespace nrc_fast::cuda::emulation {

// Whether they tell about every access to memory.
bool can_find_races();

// Whether products and the sums they are added to are rounded once, as nvcc has it.
bool contracts_products();

}  // namespace nrc_fast::cuda::emulation
