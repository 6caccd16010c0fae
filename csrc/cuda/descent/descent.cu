// Gradient descent on the unconstrained feature model: one block for each problem, and what lies in its shared memory.
#include "cuda/descent/arguments.h"
#include "cuda/descent/descent.h"
#include "cuda/descent/kernel.h"
#include "cuda/machine/rows.h"
#include "cuda/machine/workspace.h"

namespace nrc_fast::cuda {
namespace {

template <class T, bool is_resident>
NRC_FAST_GLOBAL(most_descent_threads(sizeof(T) == 8), 1)
descent_kernel(DescentArguments arguments) {
  for (std::int64_t problem = block_index(); problem < arguments.request.problems; problem += grid_size()) {
    const std::int64_t steps = arguments.request.steps[problem];
    if (steps <= 0) continue;
    DescentProblem<T, is_resident>(arguments, problem).run(steps);
    synchronize_block();
  }
}

struct DescentPlan {
  DescentArguments arguments;
  std::int64_t blocks;
  std::int64_t shared_bytes;
  std::int64_t workspace_bytes;
  bool is_resident;
};

// How sums are formed depends on the sizes of one problem only: not on the batch, nor on where the state lies.
DescentPlan plan_of(const DescentRequest& request, const DeviceLimits& device) {
  const std::int64_t size = request.element_size();
  const std::int64_t used = request.d + request.n + 1;
  DescentPlan plan{};
  DescentArguments& arguments = plan.arguments;
  arguments.request = request;
  // An odd number of patches, as descent/kernel.h explains.
  const std::int64_t patches = ceiling(used, patch_columns);
  arguments.stride = (patches + (patches % 2 == 0 ? 1 : 0)) * patch_columns;
  // All warps have as many patches of columns.
  const std::int64_t rounds = ceiling(patches, most_descent_threads(request.double_precision) / warp_lanes);
  arguments.threads = static_cast<int>(ceiling(patches, rounds)) * warp_lanes;
  arguments.scratch_elements = round_up(scratch_elements(request.d, request.n, arguments.stride), workspace_alignment);

  const auto has_room = [&](std::int64_t elements) {
    const bool fits = plan.shared_bytes + elements * size <= device.shared_memory_per_block;
    if (fits) plan.shared_bytes += elements * size;
    return fits;
  };
  // What is used most first.
  const bool has_velocities = request.transform_velocities != nullptr;
  const std::int64_t state = request.d * arguments.stride;
  arguments.scratch_is_shared = has_room(arguments.scratch_elements);
  arguments.transforms_are_shared = has_room(state);
  arguments.velocities_are_shared = has_velocities && has_room(state);
  arguments.moments_are_shared = has_room(used * arguments.stride);
  arguments.transform_stride = arguments.transforms_are_shared ? arguments.stride : request.stride;
  arguments.velocity_stride = arguments.velocities_are_shared ? arguments.stride : request.stride;
  arguments.moment_stride = arguments.moments_are_shared ? arguments.stride : request.stride;
  plan.is_resident = arguments.scratch_is_shared && arguments.transforms_are_shared &&
                     (!has_velocities || arguments.velocities_are_shared) && arguments.moments_are_shared;

  const std::int64_t most = arguments.scratch_is_shared ? std::int64_t{1} << 30 : 2 * device.multiprocessors;
  plan.blocks = request.problems < most ? request.problems : most;
  plan.workspace_bytes = arguments.scratch_is_shared ? 0 : plan.blocks * arguments.scratch_elements * size;
  return plan;
}

template <class T>
void launch_descent(const DescentPlan& plan, Stream stream) {
  const Grid grid{static_cast<unsigned>(plan.blocks)};
  const auto kernel = plan.is_resident ? descent_kernel<T, true> : descent_kernel<T, false>;
  launch(kernel, "descent", grid, plan.arguments.threads, plan.shared_bytes, stream, plan.arguments);
}

}  // namespace

std::int64_t descent_workspace(const DescentBatch& batch, const DeviceLimits& device) {
  require_padded_states(batch);
  return plan_of(DescentRequest{batch}, device).workspace_bytes;
}

void descent(const DescentRequest& request, const DeviceLimits& device, Stream stream) {
  require_padded_states(request);
  if (request.problems <= 0) return;
  const DescentPlan plan = plan_of(request, device);
  if (plan.workspace_bytes > 0) {
    require_workspace(request.workspace, request.workspace_bytes, plan.workspace_bytes, "descent");
  }
  if (request.double_precision) {
    launch_descent<double>(plan, stream);
  } else {
    launch_descent<float>(plan, stream);
  }
}

}  // namespace nrc_fast::cuda
