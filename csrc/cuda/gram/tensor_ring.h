// The ring of stages that feeds the tensor cores: blocks of rows in shared memory, which come by asynchronous copies
// while earlier ones are multiplied. Addresses and what is valid are worked out once for a segment.
#pragma once

#include "cuda/gram/tensor.h"

namespace nrc_fast::cuda {

// The shape of a Gram kernel. `parts` planes are multiplied with one another; a block of `warps` works on a tile of
// size x size. Where the matrix is no wider than a tile, both sides are the same columns, and a stage holds one.
//
// Warps of 64 x 64 read 8 matrices of 16 x 16 for 32 products; of 64 x 32, 6 for 16, and then shared memory is what
// limits the tensor cores. Their second set of sums has no place in registers: those are for cards whose
// multiprocessors have shared memory for it.
template <int parts_, int size_, int warps_, int sides_>
struct TensorGram {
  static constexpr int parts = parts_;
  static constexpr int size = size_;
  static constexpr int sides = sides_;
  using Layout = WarpLayout<size, warps_>;
  static constexpr int threads = warps_ * warp_lanes;
  static constexpr bool finds = parts == 1;  // findings, of rows as they are stored
  static constexpr int stage_rows = parts == 1 ? 32 : 16;
  static constexpr int side_bytes = stage_rows * size * 2;
  static constexpr int part_bytes = side_bytes * sides;
  static constexpr int stage_bytes = part_bytes * parts;
  static constexpr int accumulators = Layout::tall * Layout::wide;
  static constexpr bool sums_in_shared = size == 128 && (parts > 1 || warps_ == 4);
  static constexpr int sums_bytes = sums_in_shared ? size * size * 4 : 0;
  // Bytes on their way: enough for the latency of the memory, and for two blocks where registers allow them.
  static constexpr int ring_bytes = size == 64 ? (32 << 10)
                                               : (parts > 1     ? (96 << 10)
                                                  : warps_ == 4 ? (48 << 10)
                                                                : (64 << 10));
  static constexpr int stages = ring_bytes / stage_bytes;
  static constexpr int shared_bytes = stage_bytes * stages + sums_bytes;
  static constexpr int slab_blocks = 8192 / stage_rows;
  // Each thread looks at the same chunk of a few rows.
  static constexpr int row_chunks = size / chunk_columns;
  static constexpr int row_step = threads / row_chunks;
  static constexpr int thread_rows = stage_rows / row_step;
  static_assert(row_step % 8 == 0, "chunks of all rows of a thread must be permuted alike");
  // It copies every eighth chunk of a row, so that it has as few rows as may be: its copies of a row need one address,
  // to which they add what is known beforehand. Eight chunks are a line of the cache.
  static constexpr int copied_together = threads / 8 <= stage_rows ? 8 : row_chunks;
  static constexpr int copied_pieces = row_chunks / copied_together;
  static constexpr int copied_step = threads / copied_together;
  static constexpr int copied_rows = stage_rows / copied_step;
  static_assert(copied_together % 8 == 0 && copied_step % 8 == 0, "a thread's chunks must be permuted alike");
  static_assert(copied_rows * copied_step == stage_rows && copied_pieces * copied_together == row_chunks);

  // Stages between folds. Tensor cores that add only a few products at once cut twice as often, and are folded twice as
  // often, so that sums lose no more there than elsewhere.
  NRC_FAST_DEVICE static int fold_blocks() { return (parts == 1 && products_at_once() >= 8 ? 512 : 256) / stage_rows; }
};

// Where the chunk of a thread lies in one side of a stage, in its first row.
template <class Gram>
NRC_FAST_DEVICE int thread_chunk_offset() {
  return chunk_offset(Gram::size, thread_index() / Gram::row_chunks, thread_index() % Gram::row_chunks);
}

// Bytes of a chunk that are there, where so many columns are left from its first on.
NRC_FAST_DEVICE int chunk_bytes(int columns_left) {
  return columns_left <= 0 ? 0 : (columns_left < chunk_columns ? columns_left : chunk_columns) * 2;
}

// What a thread copies of the stages of a segment.
template <class Gram>
class StageCopies {
 public:
  NRC_FAST_DEVICE StageCopies(const Planes& planes, TilePosition tile, int first_sample, int count)
      : plane_stride_(planes.plane_stride * 2),
        step_(planes.row_stride * Gram::copied_step * 2),
        rows_(static_cast<int>(planes.rows) - first_sample),
        stages_(count),
        stages_left_(count),
        chunk_(kept(chunk_offset(Gram::size, first_row(), first_chunk()))),
        is_diagonal_(tile.row == tile.column) {
    // The row of tiles is not above the column.
    const bool is_whole = (static_cast<int>(tile.row) + 1) * Gram::size <= static_cast<int>(planes.columns);
    ragged_stages_ = !is_whole ? count : (rows_ < count * Gram::stage_rows ? 1 : 0);
    // Addresses are stepped before a copy: the copy would have to read them first otherwise, or have some of its own.
    const std::int64_t before = (first_sample + first_row() - Gram::copied_step) * planes.row_stride;
#pragma unroll
    for (int side = 0; side < Gram::sides; ++side) {
      const int column = static_cast<int>(side == 0 ? tile.row : tile.column) * Gram::size;
      const int place = column + first_chunk() * chunk_columns;
      const int left = static_cast<int>(planes.columns) - place;
#pragma unroll
      for (int piece = 0; piece < Gram::copied_pieces; ++piece) {
        valid_[side][piece] = chunk_bytes(left - piece * Gram::copied_together * chunk_columns);
      }
      sources_[side] = bytes_at(planes.data + before + (left <= 0 ? 0 : place));
    }
  }

  // Starts the copies of the next stage of the segment, if there is one.
  NRC_FAST_DEVICE void start(char* stage) {
    if (stages_left_ > ragged_stages_) {
      start_copies<true>(stage);
    } else if (stages_left_ > 0) {
      start_copies<false>(stage);
    }
    --stages_left_;
  }

 private:
  template <bool is_whole>
  NRC_FAST_DEVICE void start_copies(char* stage) {
    char* const chunk = stage + chunk_;
    const int row = (stages_ - stages_left_) * Gram::stage_rows + first_row();
#pragma unroll
    for (int side = 0; side < Gram::sides; ++side) {
      if (side == 1 && is_diagonal_) break;
#pragma unroll
      for (int i = 0; i < Gram::copied_rows; ++i) {
        char* const target = chunk + side * Gram::side_bytes + i * Gram::copied_step * Gram::size * 2;
        const bool is_there = row + i * Gram::copied_step < rows_;
        sources_[side] = step_by_step(sources_[side] + step_);
        const char* source = sources_[side];
#pragma unroll
        for (int part = 0; part < Gram::parts; ++part) {
#pragma unroll
          for (int piece = 0; piece < Gram::copied_pieces; ++piece) {
            constexpr int piece_bytes = Gram::copied_together * chunk_columns * 2;
            char* const place = target + part * Gram::part_bytes + piece * piece_bytes;
            if constexpr (is_whole) {
              copy_async(place, source + piece * piece_bytes);
            } else {
              copy_async(place, source + piece * piece_bytes, is_there ? valid_[side][piece] : 0);
            }
          }
          if constexpr (Gram::parts > 1) source += plane_stride_;
        }
      }
    }
  }

  // The first of what the thread copies.
  NRC_FAST_DEVICE static int first_row() { return thread_index() / Gram::copied_together; }
  NRC_FAST_DEVICE static int first_chunk() { return thread_index() % Gram::copied_together; }

  NRC_FAST_DEVICE static const char* bytes_at(const std::uint16_t* source) {
    return static_cast<const char*>(static_cast<const void*>(source));
  }

  const char* sources_[Gram::sides];  // where the row before the next lies
  std::int64_t plane_stride_;         // in bytes, as all steps are
  std::int64_t step_;
  int valid_[Gram::sides][Gram::copied_pieces];  // bytes of the chunks
  int rows_;                                     // of the planes, from the first one of the segment
  int stages_;
  int stages_left_;
  int ragged_stages_;  // the last ones, which may end before their rows or columns do
  int chunk_;
  bool is_diagonal_;
};

}  // namespace nrc_fast::cuda
