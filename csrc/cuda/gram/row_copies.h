// Rows on their way to the tensor cores, as they are stored: where a block has them, and how a thread copies them
// there.
//
// A thread copies and converts one chunk of eight columns of one row of each side of a stage: its copies are in a ring
// of their own and wait for no barrier, but where others look at the rows beside their targets. Planes of two stages
// are in shared memory: one is multiplied while the next is written.
#pragma once

#include "cuda/gram/row_columns.h"
#include "cuda/gram/tensor_products.h"

namespace nrc_fast::cuda {

struct RowGramArguments {
  ConvertedRows of;
  WorkPlan plan;
  double* slabs;
  TensorFindings findings;
  std::int64_t first_row;    // of these rows, in the pass
  std::int64_t energy_step;  // from a tile's energies to those of the next: the rows of the pass

  NRC_FAST_DEVICE int rows() const { return static_cast<int>(of.rows.rows); }
};

template <class Row_, int size, int sides, bool has_targets_>
struct RowGram : TensorGram<3, size, size == 64 ? 4 : 8, sides> {
  using Row = Row_;
  static constexpr bool has_targets = has_targets_;
  using Base = TensorGram<3, size, size == 64 ? 4 : 8, sides>;
  static constexpr int pieces = chunk_columns * static_cast<int>(sizeof(Row)) / 16;  // of 16 bytes, of a chunk
  static constexpr int piece_bytes = Base::threads * 16;                             // of all threads
  static constexpr int raw_side_bytes = pieces * piece_bytes;
  static constexpr int raw_bytes = raw_side_bytes * sides;
  static constexpr int raw_stages = (size == 64 ? (24 << 10) : (48 << 10)) / raw_bytes;
  static constexpr int shift_bytes = size * sides * 8;
  // Others look at the rows of a stage while the next one is converted, where there are targets.
  static constexpr int stages_ahead = raw_stages - (has_targets ? 2 : 1);
  static constexpr int target_stage_bytes = has_targets ? Base::stage_rows * target_pitch * 8 : 0;
  static constexpr int target_bytes =
      raw_stages * target_stage_bytes + (has_targets ? Base::threads / warp_lanes * converted_targets * 8 : 0);
  static constexpr int shared_bytes =
      2 * Base::stage_bytes + Base::sums_bytes + raw_stages * raw_bytes + shift_bytes + target_bytes;
  static_assert(Base::thread_rows == 1);
  static_assert(sides == 1 || !has_targets);
};

// What of its shared memory a block has for what.
template <class Gram>
struct RowMemory {
  char* planes;  // of two stages
  char* sums;
  char* ring;
  double* shift;  // of both sides
  char* targets;

  NRC_FAST_DEVICE RowMemory()
      : planes(shared_memory()),
        sums(planes + 2 * Gram::stage_bytes),
        ring(sums + Gram::sums_bytes),
        shift(static_cast<double*>(static_cast<void*>(ring + Gram::raw_stages * Gram::raw_bytes))),
        targets(ring + Gram::raw_stages * Gram::raw_bytes + Gram::shift_bytes) {}

  NRC_FAST_DEVICE char* stage(int index) const { return planes + index % 2 * Gram::stage_bytes; }

  // All threads are behind a barrier before one reads it.
  NRC_FAST_DEVICE void load_shift(const RowGramArguments& arguments, TilePosition tile) const {
    for (int c = thread_index(); c < Gram::size * Gram::sides; c += Gram::threads) {
      const std::int64_t column = (c < Gram::size ? tile.row : tile.column) * Gram::size + c % Gram::size;
      shift[c] = arguments.of.shift != nullptr && column < arguments.of.rows.columns ? arguments.of.shift[column] : 0.0;
    }
  }
};

// Copies of one thread: its chunk of each side, in the same places of every stage of the ring.
template <class Gram>
class RowCopies {
 public:
  using Row = typename Gram::Row;

  NRC_FAST_DEVICE RowCopies(const RowGramArguments& arguments, TilePosition tile, int first_sample, int count,
                            const RowMemory<Gram>& memory)
      : rows_(arguments.of.rows),
        ring_(memory.ring + thread_index() * 16),
        stages_left_(count),
        is_diagonal_(tile.row == tile.column),
        targets_(arguments.of.targets, first_sample, memory.targets) {
    const int row = thread_index() / Gram::row_chunks;
    const int chunk = thread_index() % Gram::row_chunks * chunk_columns;
    const Row* const first = static_cast<const Row*>(rows_.data) + (first_sample + row) * rows_.row_stride;
#pragma unroll
    for (int side = 0; side < Gram::sides; ++side) {
      const int column = static_cast<int>(side == 0 ? tile.row : tile.column) * Gram::size + chunk;
      const int left = static_cast<int>(rows_.columns) - column;
      const int columns = left <= 0 ? 0 : (left < chunk_columns ? left : chunk_columns);
      valid_[side] = columns * static_cast<int>(sizeof(Row));
      sources_[side] = first + (columns == 0 ? 0 : column);
    }
    // The row of tiles is not above the column.
    const bool is_whole = (static_cast<int>(tile.row) + 1) * Gram::size <= static_cast<int>(rows_.columns);
    const int rows_left = static_cast<int>(rows_.rows) - first_sample;
    ragged_stages_ = !is_whole ? count : (rows_left < count * Gram::stage_rows ? 1 : 0);
    rows_left_ = rows_left - row;
#pragma unroll
    for (int s = 0; s < Gram::stages_ahead; ++s) start();
  }

  // The row of the thread's chunk in the next stage, which may not be there.
  NRC_FAST_DEVICE int row() const {
    return static_cast<int>(rows_.rows) - rows_left_ - Gram::stages_ahead * Gram::stage_rows;
  }

  // The next stage has arrived, for this thread.
  NRC_FAST_DEVICE static void wait() { wait_for_copies<Gram::stages_ahead - 1>(); }

  // The values of its chunk, zeros where there are none.
  NRC_FAST_DEVICE void read(int side, Row (&values)[chunk_columns]) const {
    struct alignas(16) Piece {
      Row values[16 / sizeof(Row)];
    };
    const char* const chunk = place(taken_) + side * Gram::raw_side_bytes;
#pragma unroll
    for (int p = 0; p < Gram::pieces; ++p) {
      const Piece piece = *static_cast<const Piece*>(static_cast<const void*>(chunk + p * Gram::piece_bytes));
#pragma unroll
      for (int i = 0; i < static_cast<int>(16 / sizeof(Row)); ++i) values[p * (16 / sizeof(Row)) + i] = piece.values[i];
    }
  }

  // Goes on to the next stage, and starts the copies of one more.
  NRC_FAST_DEVICE void advance() {
    taken_ = after(taken_);
    start();
  }

 private:
  NRC_FAST_DEVICE static int after(int stage) { return stage + 1 == Gram::raw_stages ? 0 : stage + 1; }
  NRC_FAST_DEVICE char* place(int stage) const { return ring_ + stage * Gram::raw_bytes; }

  NRC_FAST_DEVICE void start() {
    if (stages_left_ > ragged_stages_) {
      start_copies<true>();
    } else if (stages_left_ > 0) {
      start_copies<false>();
    }
    --stages_left_;
    rows_left_ -= Gram::stage_rows;
    commit_copies();
  }

  template <bool is_whole>
  NRC_FAST_DEVICE void start_copies() {
#pragma unroll
    for (int side = 0; side < Gram::sides; ++side) {
      if (side == 1 && is_diagonal_) break;
      char* const chunk = place(started_) + side * Gram::raw_side_bytes;
#pragma unroll
      for (int p = 0; p < Gram::pieces; ++p) {
        char* const target = chunk + p * Gram::piece_bytes;
        if constexpr (is_whole) {
          copy_async(target, sources_[side] + p * (16 / sizeof(Row)));
        } else {
          const int left = rows_left_ > 0 ? valid_[side] - p * 16 : 0;
          copy_async(target, sources_[side] + (left > 0 ? p * (16 / sizeof(Row)) : 0),
                     left < 0 ? 0 : (left < 16 ? left : 16));
        }
      }
      sources_[side] += rows_.row_stride * Gram::stage_rows;
    }
    if constexpr (Gram::has_targets) targets_.start(started_, rows_left_ > 0);
    started_ = after(started_);
  }

  const MatrixView& rows_;
  char* ring_;
  int stages_left_;
  int ragged_stages_;  // the last ones, which may end before their rows or columns do
  bool is_diagonal_;
  int valid_[Gram::sides];  // bytes of the chunk
  const Row* sources_[Gram::sides];
  int rows_left_;  // from that of the thread's chunk on, in the stage that is copied next
  TargetCopies<Gram> targets_;
  int started_ = 0;
  int taken_ = 0;
};

}  // namespace nrc_fast::cuda
