// What a block has room for in a product with a Gram in one read: its warps, and where what they share lies.
#include "cuda/gram/resident_product.h"

namespace nrc_fast::cuda {
namespace {

bool has_room(const MatrixView& rows, const ResidentPlan& plan, const DeviceLimits& device) {
  return plan.warps() <= resident_warps && resident_layout(plan, rows.dtype).bytes <= device.shared_memory_per_block;
}

}  // namespace

ResidentLayout resident_layout(const ResidentPlan& plan, DType dtype) {
  const auto size = static_cast<int>(size_of(dtype));
  const int octets = octets_of(size);
  const int readers = plan.row_warps * plan.column_warps;
  ResidentLayout layout{};
  layout.pitch = plan.column_warps * resident_columns * size;
  layout.stage_rows = plan.row_warps * octets * octet_rows;
  layout.stage = layout.stage_rows * layout.pitch;
  layout.shift = resident_stages * layout.stage;
  layout.parts = layout.shift + plan.column_warps * resident_columns * 8;
  layout.coefficients = layout.parts + plan.warps() * octets * octet_sums * 8;
  layout.column_sums = layout.coefficients + plan.row_warps * plan.tiles * octets * octet_sums * 8;
  layout.energies = layout.column_sums + readers * resident_columns * 8;
  layout.flags = layout.energies + (readers + 1) / 2 * 16;
  layout.places = layout.flags + layout.stage_rows * 4;
  layout.bytes = layout.places + plan.warps() * static_cast<int>(sizeof(WarpPlace));
  return layout;
}

ResidentPlan plan_resident_product(const MatrixView& rows, std::int64_t tiles, const DeviceLimits& device) {
  ResidentPlan plan{};
  if (device.capability.major < 8 || rows.columns > resident_warps * resident_columns || tiles > resident_warps) {
    return plan;
  }
  plan.tiles = static_cast<int>(tiles);
  plan.column_warps = static_cast<int>(ceiling(rows.columns, resident_columns));
  ResidentPlan more = plan;
  while (++more.row_warps, has_room(rows, more, device)) plan = more;
  return plan;
}

int most_resident_tiles(const MatrixView& rows, const DeviceLimits& device) {
  int tiles = resident_warps;
  while (tiles > 0 && plan_resident_product(rows, tiles, device).row_warps == 0) --tiles;
  return tiles;
}

}  // namespace nrc_fast::cuda
