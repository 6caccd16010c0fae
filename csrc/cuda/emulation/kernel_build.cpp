// How the kernels of this module are compiled, which this file is compiled like.
#include "cuda/emulation/kernel_build.h"

#include "cuda/emulation/machine.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__
#endif
#endif

namespace nrc_fast::cuda::emulation {

bool can_find_races() {
#if defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

bool contracts_products() {
  // Rounded on its own, the product is 1.
  volatile double above = 1.0 + 0x1p-30;
  volatile double below = 1.0 - 0x1p-30;
  const double left = above;
  const double right = below;
  return left * right - 1.0 != 0.0;
}

}  // namespace nrc_fast::cuda::emulation
