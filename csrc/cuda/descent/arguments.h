// What the launch of gradient descent chooses for its kernel: threads, strides, and what lies in shared memory.
#pragma once

#include "cuda/descent/descent.h"
#include "cuda/machine/fragments.h"

namespace nrc_fast::cuda {

// Of the patch that a warp takes at a time, as descent/kernel.h explains.
constexpr int patch_rows = 4;
constexpr int patch_columns = warp_lanes / patch_rows;
// Of a block, so that no register is spilled.
constexpr int most_descent_threads(bool double_precision) { return double_precision ? 512 : 576; }

struct DescentArguments {
  DescentRequest request;
  std::int64_t stride;  // of Q and P
  // During the steps: that of shared memory, or that of the caller's.
  std::int64_t transform_stride;
  std::int64_t velocity_stride;
  std::int64_t moment_stride;
  std::int64_t scratch_elements;
  int threads;
  bool scratch_is_shared;
  bool transforms_are_shared;
  bool velocities_are_shared;
  bool moments_are_shared;
};

// Elements of Q, P, W, the W before the step, b and the velocities of W and b.
inline std::int64_t scratch_elements(std::int64_t d, std::int64_t n, std::int64_t stride) {
  return 2 * n * stride + 3 * d * n + 2 * n;
}

}  // namespace nrc_fast::cuda
