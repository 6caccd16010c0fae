// The Gram pass on a CUDA device, in device memory, without waiting for the device.
#pragma once

#include "common/requests.h"
#include "cuda/gram/slabs.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {

// "high": errors as of float32 products folded into float64. "fast": one bfloat16 product where rows are not of
// 16 bits as they are. "highest" and float64 rows: float64.
enum class Precision : int { high = 0, highest = 1, fast = 2 };

// All sums are added to. Nothing but the counts, which are added to as well, changes when a row is not finite. With
// totals, which then take the place of the counts, rows whose squares leave the range of float32 lose nothing, those
// that leave that of float64 are refused too, and `skips_nonfinite` leaves out single rows. The workspace need not be
// cleared.
struct GramRequest : GramFields<MatrixView> {
  Precision precision = Precision::high;
  std::int64_t rows_at_once = 0;  // whose planes are in memory; 0: as many as fill it well
  RowCounts* counts = nullptr;
  DeviceTotals* totals = nullptr;
  bool skips_nonfinite = false;
  char* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
};

std::int64_t gram_workspace(const GramRequest& request, const DeviceLimits& device);
void gram(const GramRequest& request, const DeviceLimits& device, Stream stream);

// How one Gram matrix is computed on a card.
struct GramChoice {
  GramMethod method;
  bool needs_planes;          // of 16 bits, written before
  bool is_as_stored = false;  // products are of the 16-bit rows as they are
};
GramChoice choose_gram(const MatrixView& rows, bool is_scaled, bool is_shifted, Precision precision,
                       Capability capability);

}  // namespace nrc_fast::cuda
