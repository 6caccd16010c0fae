// One copy of a box by the copy engine, written out as it lies in shared memory.
#include "cuda/machine/warpgroups.h"
#include "cuda/probes/probes.h"

namespace nrc_fast::cuda {
namespace {

constexpr int threads = 128;
constexpr int box_bytes = box_rows * box_row_bytes;
constexpr int shared_bytes = swizzle_bytes + box_bytes + sizeof(PhaseBarrier);

struct BoxArguments {
  TensorMap map;
  BoxProbe probe;
};

NRC_FAST_GLOBAL(threads, 1)
probe_box_kernel(const NRC_FAST_GRID_CONSTANT BoxArguments arguments) {
  if constexpr (!has_warpgroups) {
    fail();
    return;
  }
  char* const box = aligned_boxes(shared_memory());
  PhaseBarrier* const barrier = static_cast<PhaseBarrier*>(static_cast<void*>(box + box_bytes));
  if (thread_index() == 0) {
    initialize_barrier(barrier, 1);
    fence_shared_writes();
  }
  synchronize_block();
  if (thread_index() == 0) {
    arrive_and_expect(barrier, box_bytes);
    copy_box(box, &arguments.map, arguments.probe.column, arguments.probe.row, barrier);
  }
  wait_for_phase(barrier, 0);
  const auto* const values = static_cast<const std::uint16_t*>(static_cast<const void*>(box));
  for (int i = thread_index(); i < box_bytes / 2; i += threads) arguments.probe.box[i] = values[i];
}

}  // namespace

void probe_box(const BoxProbe& probe, Stream stream) {
  const BoxArguments arguments{map_boxes(probe.data, probe.rows, probe.columns, probe.row_stride, box_rows), probe};
  launch(probe_box_kernel, "probe_box", {1}, threads, shared_bytes, stream, arguments);
}

}  // namespace nrc_fast::cuda
