// One product of a warpgroup on rows that its threads have written to shared memory themselves.
#include "cuda/machine/warpgroups.h"
#include "cuda/probes/probes.h"

namespace nrc_fast::cuda {
namespace {

constexpr int stored_columns = 128;
constexpr int box_bytes = product_rows * box_row_bytes;
constexpr int shared_bytes = swizzle_bytes + 2 * box_bytes;

template <bool is_bfloat16, int columns>
NRC_FAST_GLOBAL(warpgroup_threads, 1)
probe_product_kernel(ProductProbe probe) {
  if constexpr (!has_warpgroups) {
    fail();
    return;
  }
  char* const boxes = aligned_boxes(shared_memory());
  for (int i = thread_index(); i < product_rows * stored_columns; i += warpgroup_threads) {
    const int row = i / stored_columns;
    const int column = i % box_columns;
    char* const box = boxes + i % stored_columns / box_columns * box_bytes;
    char* const place = box + box_chunk_offset(row, column / chunk_columns) + column % chunk_columns * 2;
    *static_cast<std::uint16_t*>(static_cast<void*>(place)) = probe.rows[i];
  }
  fence_shared_writes();
  synchronize_block();
  float sums[columns / 2];
#pragma unroll
  for (int i = 0; i < columns / 2; ++i) sums[i] = 0.0f;
  const std::uint64_t matrix = matrix_descriptor(shared_address(boxes), box_bytes);
  fence_products();
  start_product<is_bfloat16>(sums, matrix, matrix);
  commit_products();
  wait_for_products<0>();
#pragma unroll
  for (int i = 0; i < columns / 2; ++i) {
    const ProductElement element = product_element(thread_index(), i);
    probe.sums[element.row * columns + element.column] = sums[i];
  }
}

template <bool is_bfloat16>
void launch_product(const ProductProbe& probe, int columns, Stream stream) {
  if (columns == 64) {
    return launch(probe_product_kernel<is_bfloat16, 64>, "probe_product", {1}, warpgroup_threads, shared_bytes, stream,
                  probe);
  }
  launch(probe_product_kernel<is_bfloat16, 128>, "probe_product", {1}, warpgroup_threads, shared_bytes, stream, probe);
}

}  // namespace

void probe_product(const ProductProbe& probe, DType dtype, int columns, Stream stream) {
  if (dtype == DType::bfloat16) return launch_product<true>(probe, columns, stream);
  launch_product<false>(probe, columns, stream);
}

}  // namespace nrc_fast::cuda
