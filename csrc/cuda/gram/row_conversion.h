// Rows on their way to the tensor cores: what a thread copies of each stage, and the three bfloat16 numbers that it
// makes of each number, shifted, scaled to norm 1 where that is wanted, and looked at while they are in registers.
//
// A thread copies, converts and looks at one chunk of eight columns of one row of each side of a stage; nobody else
// needs what it has copied, so that the copies are in a ring of its own and wait for no barrier. Planes of two stages
// are in shared memory: one is multiplied while the next is written.
#pragma once

#include "cuda/gram/row_columns.h"
#include "cuda/gram/split.h"
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

// Turns chunks into planes, and keeps what it sees.
template <class Gram>
class RowConversion {
 public:
  using Row = typename Gram::Row;

  NRC_FAST_DEVICE RowConversion(const RowGramArguments& arguments, const double* shift)
      : arguments_(arguments), shift_(shift + thread_index() % Gram::row_chunks * chunk_columns) {
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) sums_[i] = 0.0;
  }

  // `row` is that of the thread's chunk, among all of the launch. Where there are two sides it is multiplied with a
  // factor, 0 of a row that is not there, and its energy is kept; null where that is not wanted.
  NRC_FAST_DEVICE void convert(const Row (&stored)[chunk_columns], int row, char* planes, double factor = 1.0,
                               double* energies = nullptr) {
    const bool is_there = Gram::sides == 2 || row < arguments_.rows();
    double values[chunk_columns];
    bool is_filled = false;
    bool is_bad = false;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      const double value = as_double(stored[i]);
      is_filled = is_filled || value != 0.0;
      values[i] = is_there ? value - shift_[i] : 0.0;
      if constexpr (Gram::sides == 2) values[i] *= factor;
      DoubleBits bits;
      bits.value = values[i];
      const auto high = static_cast<std::uint32_t>(bits.bits >> 32) & 0x7fffffffu;
      is_bad = is_bad || high >= 0x7ff00000u;
      largest_ = high > largest_ ? high : largest_;
      if constexpr (!Gram::has_targets) sums_[i] += values[i];
    }
    if constexpr (Gram::sides == 1) {
      if (arguments_.of.has_norm_1) scale_to_norm_1(values);
    }
    write(values, planes);
    if (arguments_.findings.masks.filled != nullptr) mark(row, is_filled, is_bad);
    if constexpr (Gram::sides == 2) {
      if (energies != nullptr) keep_energy(stored, values, row, energies);
    }
  }

  // The same of a side of a tile off the diagonal, whose columns others look at.
  NRC_FAST_DEVICE void convert_side(int side, const Row (&stored)[chunk_columns], double factor, char* planes) const {
    double values[chunk_columns];
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      values[i] = (as_double(stored[i]) - shift_[side * Gram::size + i]) * factor;
    }
    write(values, planes + side * Gram::side_bytes);
  }

  NRC_FAST_DEVICE void add_to(double* sums) {
    double* const target = sums + thread_index() * chunk_columns;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      target[i] += sums_[i];
      sums_[i] = 0.0;
    }
  }

  NRC_FAST_DEVICE void keep_largest(std::int64_t* below) {
    DoubleBits bits;
    bits.bits = static_cast<std::uint64_t>(largest_) << 32;
    const double largest = warp_maximum(bits.value);
    if (thread_index() % warp_lanes == 0) keep_exponent(below, largest);
  }

 private:
  NRC_FAST_DEVICE static void scale_to_norm_1(double (&values)[chunk_columns]) {
    RowEnergy<false> energy;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) energy.add(values[i]);
    join_row(energy);
    const double scale = energy.inverse_norm();
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) values[i] = scale == 0.0 ? 0.0 : values[i] * scale;
  }

  NRC_FAST_DEVICE void keep_energy(const Row (&stored)[chunk_columns], const double (&values)[chunk_columns], int row,
                                   double* energies) const {
    RowEnergy<false> energy;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      energy.add(arguments_.of.has_shifted_energies ? values[i] : as_double(stored[i]));
    }
    join_row(energy);
    if (thread_index() % Gram::row_chunks == 0 && row < arguments_.rows()) energies[row] = energy.sum;
  }

  // The lanes of a row lie side by side.
  NRC_FAST_DEVICE static void join_row(RowEnergy<false>& energy) {
#pragma unroll
    for (int mask = Gram::row_chunks / 2; mask > 0; mask /= 2) energy.sum += shuffle_xor(energy.sum, mask);
  }

  NRC_FAST_DEVICE static void write(const double (&values)[chunk_columns], char* planes) {
    ChunkWords parts[Gram::parts];
    split(values, parts);
    char* const chunk = planes + thread_chunk_offset<Gram>();
#pragma unroll
    for (int part = 0; part < Gram::parts; ++part) {
      *static_cast<ChunkWords*>(static_cast<void*>(chunk + part * Gram::part_bytes)) = parts[part];
    }
  }

  NRC_FAST_DEVICE void mark(int row, bool is_filled, bool is_bad) const {
    // The rows of a stage are one half of a word.
    const RowMasks& masks = arguments_.findings.masks;
    const std::int64_t word = (arguments_.first_row + row) / 32;
    const std::uint32_t bit = 1u << (row % 32);
    if (is_bad) set_bits(masks.bad + word, bit);  // hardly ever
    const std::uint32_t filled = joined_bits<warp_lanes>(is_filled ? bit : 0u);
    if (thread_index() % warp_lanes == 0 && filled != 0) set_bits(masks.filled + word, filled);
  }

  const RowGramArguments& arguments_;
  const double* shift_;
  double sums_[chunk_columns];
  std::uint32_t largest_ = 0;  // upper halves of |h - shift|
};

// Rows of several tiles; without targets, and not scaled.
void launch_row_tiles(const RowGramArguments& arguments, Stream stream);

}  // namespace nrc_fast::cuda
