// V sum (h - s)(h - s)^T in one read: rows stay in shared memory, as they are stored, until their coefficients and from
// these their image are formed. What a block has room for is decided here, on the host.
#pragma once

#include "common/matrix.h"
#include "cuda/gram/product.h"
#include "cuda/machine/device.h"
#include "cuda/machine/rows.h"

namespace nrc_fast::cuda {

// A warp keeps eight vectors and their image in 64 columns of all rows in half of its registers, and no block has more
// than 16 such warps: up to 1,024 columns with 8 vectors, 512 with 16, 256 with 32.
constexpr int resident_warps = 16;
constexpr int resident_columns = 64;
constexpr int resident_stages = 3;
constexpr int octet_rows = 8;
constexpr int octet_sums = octet_rows * tile_vectors;

// Eights of rows that a warp has of a stage: of 16-bit rows as many bytes as of float32 rows.
NRC_FAST_BOTH int octets_of(int size) { return size == 2 ? 2 : 1; }

// What a warp has; it is read again for every stage, as registers are for vectors and image.
struct alignas(16) WarpPlace {
  int tile;
  int column;  // the first of its 64
  int row;     // the first of its rows of a stage
  int reader;  // its number among those of the first tile
};

// How the warps of a block share rows, columns and vectors.
struct ResidentPlan {
  int tiles = 0;         // of eight vectors
  int column_warps = 0;  // for 64 columns each
  int row_warps = 0;     // for other rows each; 0 where no block has room for such rows

  NRC_FAST_BOTH int warps() const { return tiles * column_warps * row_warps; }
};

// Tiles of vectors that one read may have at most; 0 where rows are read twice.
int most_resident_tiles(const MatrixView& rows, const DeviceLimits& device);
ResidentPlan plan_resident_product(const MatrixView& rows, std::int64_t tiles, const DeviceLimits& device);

// Where what the threads of a block share begins, in bytes.
struct ResidentLayout {
  int pitch;         // from a row of a stage to the next
  int stage_rows;    // of all warps
  int stage;         // from one to the next
  int shift;         // behind all of them
  int parts;         // of coefficients, of each warp
  int coefficients;  // of each part of the rows and tile of vectors
  int column_sums;   // of each warp with other rows or columns
  int energies;      // of each of them
  int flags;         // of the rows of a stage
  int places;        // of the warps
  int bytes;
};
ResidentLayout resident_layout(const ResidentPlan& plan, DType dtype);

struct ResidentArguments {
  MatrixView features;
  ResidentPlan plan;
  ResidentLayout layout;
  int steps;              // stages that all blocks have together
  int whole_steps;        // of them, without a row that is not there
  bool are_chunks;        // of 16 bytes, or else single values are copied
  const double* vectors;  // a group of them, in fragments
  const double* shift;    // padded with zeros
  std::int64_t padded_columns;
  std::int64_t units;  // vectors, and one more for the sums of the rows
  std::int64_t first_unit;
  std::int64_t group_vectors;
  CompensatedSum* image;     // blocks x units x padded columns
  CompensatedSum* energies;  // of the blocks
  RowCounts* counts;
};

// Blocks that run at once on the current device, or fewer that have rows.
std::int64_t resident_product_blocks(const MatrixView& rows, const ResidentPlan& plan, const DeviceLimits& device);
void add_resident_product(const ResidentArguments& arguments, std::int64_t blocks, Stream stream);

}  // namespace nrc_fast::cuda
