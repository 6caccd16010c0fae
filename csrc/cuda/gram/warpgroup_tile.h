// How a tile of a Gram matrix is worked on by warpgroups: one asks for copies of boxes into a ring of stages, the
// others multiply what has arrived, each 64 rows of the tile.
#pragma once

#include "cuda/gram/tensor_findings.h"
#include "cuda/machine/warpgroups.h"

namespace nrc_fast::cuda {

// Where the matrix is no wider than a tile, both sides are the same columns, and a stage holds one.
template <int size_, int sides_>
struct WarpgroupGram {
  static constexpr int size = size_;
  static constexpr int sides = sides_;
  static constexpr int consumers = size / 64;  // warpgroups that multiply
  static constexpr int consumer_threads = consumers * warpgroup_threads;
  static constexpr int threads = warpgroup_threads + consumer_threads;
  static constexpr int stage_rows = 64;
  static constexpr int stages = 6;
  static constexpr int side_boxes = size / box_columns;
  static constexpr int box_bytes = stage_rows * box_row_bytes;
  static constexpr int side_bytes = side_boxes * box_bytes;
  static constexpr int stage_bytes = sides * side_bytes;
  static constexpr int shared_bytes =
      swizzle_bytes + stages * (stage_bytes + 2 * static_cast<int>(sizeof(PhaseBarrier)));
  static constexpr int sums = size / 2;  // of a thread
  static constexpr int fold_blocks = 512 / stage_rows;
  static constexpr int slab_blocks = 8192 / stage_rows;
  static_assert(slab_blocks % fold_blocks == 0);
  // Of what is found on the way each thread sees the same chunk of a few rows.
  static constexpr int row_chunks = size / chunk_columns;
  static constexpr int row_step = consumer_threads / row_chunks;
  static constexpr int thread_rows = stage_rows / row_step;
  static_assert(row_step % swizzle_rows == 0, "chunks of all rows of a thread must be permuted alike");
};

// The stages, and whose turn each is; one walker of the ring is at one stage.
template <class Gram>
class StageRing {
 public:
  NRC_FAST_DEVICE explicit StageRing(char* shared) : stages_(aligned_boxes(shared)) {}

  // By one thread; a barrier of the block comes after it.
  NRC_FAST_DEVICE void initialize() {
    for (int stage = 0; stage < Gram::stages; ++stage) {
      initialize_barrier(barrier(stage), 1);
      initialize_barrier(barrier(Gram::stages + stage), Gram::consumer_threads / warp_lanes);
    }
    fence_shared_writes();
  }

  NRC_FAST_DEVICE char* stage() const { return stages_ + stage_ * Gram::stage_bytes; }
  NRC_FAST_DEVICE PhaseBarrier* full() const { return barrier(stage_); }
  NRC_FAST_DEVICE void next() {
    if (++stage_ < Gram::stages) return;
    stage_ = 0;
    parity_ ^= 1;
  }

  NRC_FAST_DEVICE void wait_until_empty() const { wait_for_phase(barrier(Gram::stages + stage_), parity_ ^ 1); }
  NRC_FAST_DEVICE void wait_until_full() const { wait_for_phase(full(), parity_); }

  // The stage `back` before this one may be filled again, as far as this warp goes.
  NRC_FAST_DEVICE void give_back(int back) const {
    synchronize_warp();  // all its lanes have read there
    const int stage = stage_ < back ? stage_ - back + Gram::stages : stage_ - back;
    if (thread_index() % warp_lanes == 0) arrive(barrier(Gram::stages + stage));
  }

 private:
  // Those of full stages, and behind them those of empty ones.
  NRC_FAST_DEVICE PhaseBarrier* barrier(int index) const {
    return static_cast<PhaseBarrier*>(static_cast<void*>(stages_ + Gram::stages * Gram::stage_bytes)) + index;
  }

  char* stages_;
  int stage_ = 0;
  int parity_ = 0;
};

// Sums over columns and masks of rows from the stages of diagonal tiles, by the threads that multiply.
template <class Row, class Gram>
class WarpgroupFindings {
 public:
  NRC_FAST_DEVICE explicit WarpgroupFindings(int thread) : thread_(thread) {}

  // `word` is the place of the block's first 32 rows in the masks.
  NRC_FAST_DEVICE void see(const char* stage, const RowMasks& masks, std::int64_t word) {
    const int row = thread_ / Gram::row_chunks;
    const int chunk = thread_ % Gram::row_chunks;
    const char* const place =
        stage + chunk / swizzle_rows * Gram::box_bytes + box_chunk_offset(row, chunk % swizzle_rows);
    constexpr int word_rows = Gram::thread_rows / 2;  // of a thread in a word
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t filled = 0;
      std::uint32_t bad = 0;
#pragma unroll
      for (int i = 0; i < word_rows; ++i) {
        const int step = (half * word_rows + i) * Gram::row_step;
        const std::uint32_t largest =
            columns_.look(*static_cast<const ChunkWords*>(static_cast<const void*>(place + step * box_row_bytes)));
        filled |= (largest != 0 ? 1u : 0u) << (row + i * Gram::row_step);
        bad |= (largest >= StoredBits<Row>::infinity ? 1u : 0u) << (row + i * Gram::row_step);
      }
      if (masks.filled != nullptr) mark_rows(masks, word + half, filled, bad);
    }
  }
  NRC_FAST_DEVICE void add_to(double* sums) { columns_.add_to(sums + thread_ * chunk_columns); }
  NRC_FAST_DEVICE void keep_largest(std::int64_t* below) { columns_.keep_largest(below); }

 private:
  int thread_;
  ColumnFindings<Row> columns_;
};

}  // namespace nrc_fast::cuda
