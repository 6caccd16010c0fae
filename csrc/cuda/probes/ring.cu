// A ring of boxes: one thread of a warpgroup asks for copies, the warps of two others wait for them, add them up and
// give the stages back. Phases of the barriers come around many times.
#include "cuda/machine/warpgroups.h"
#include "cuda/probes/probes.h"

namespace nrc_fast::cuda {
namespace {

constexpr int threads = 3 * warpgroup_threads;
constexpr int stages = 3;
constexpr int box_bytes = box_rows * box_row_bytes;
constexpr int shared_bytes = swizzle_bytes + stages * (box_bytes + 2 * sizeof(PhaseBarrier));

struct RingArguments {
  TensorMap map;
  RingProbe probe;
};

NRC_FAST_GLOBAL(threads, 1)
probe_ring_kernel(const NRC_FAST_GRID_CONSTANT RingArguments arguments) {
  if constexpr (!has_warpgroups) {
    fail();
    return;
  }
  char* const boxes = aligned_boxes(shared_memory());
  PhaseBarrier* const full = static_cast<PhaseBarrier*>(static_cast<void*>(boxes + stages * box_bytes));
  PhaseBarrier* const empty = full + stages;
  if (thread_index() == 0) {
    for (int stage = 0; stage < stages; ++stage) {
      initialize_barrier(full + stage, 1);
      initialize_barrier(empty + stage, ring_sums / warp_lanes);
    }
    fence_shared_writes();
  }
  synchronize_block();
  const int turns = static_cast<int>((arguments.probe.rows + box_rows - 1) / box_rows);
  if (thread_index() == 0) {
    for (int turn = 0; turn < turns; ++turn) {
      const int stage = turn % stages;
      wait_for_phase(empty + stage, (turn / stages & 1) ^ 1);
      arrive_and_expect(full + stage, box_bytes);
      copy_box(boxes + stage * box_bytes, &arguments.map, 0, turn * box_rows, full + stage);
    }
  }
  if (thread_index() < warpgroup_threads) return;
  const int thread = thread_index() - warpgroup_threads;
  const int column = thread % box_columns;
  std::int64_t sum = 0;
  for (int turn = 0; turn < turns; ++turn) {
    const int stage = turn % stages;
    wait_for_phase(full + stage, turn / stages & 1);
    for (int row = thread / box_columns; row < box_rows; row += ring_sums / box_columns) {
      const char* const chunk = boxes + stage * box_bytes + box_chunk_offset(row, column / chunk_columns);
      sum += static_cast<const std::uint16_t*>(static_cast<const void*>(chunk))[column % chunk_columns];
    }
    synchronize_warp();
    if (thread % warp_lanes == 0) arrive(empty + stage);
  }
  arguments.probe.sums[thread] = sum;
}

}  // namespace

void probe_ring(const RingProbe& probe, Stream stream) {
  const RingArguments arguments{map_boxes(probe.data, probe.rows, box_columns, probe.row_stride, box_rows), probe};
  launch(probe_ring_kernel, "probe_ring", {1}, threads, shared_bytes, stream, arguments);
}

}  // namespace nrc_fast::cuda
