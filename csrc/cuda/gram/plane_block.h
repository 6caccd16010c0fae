// How the threads of a block lie on the rows and columns of a turn of planes, what they load of them, and what of its
// shared memory is for what.
#pragma once

#include "cuda/gram/prepare.h"
#include "cuda/gram/row_pieces.h"

namespace nrc_fast::cuda {

constexpr int most_plane_threads = 512;
constexpr int filled_plane_threads = 256;  // of blocks that have several rows at once
constexpr int most_plane_rows = 8;
constexpr int product_chunks = 32;  // of a block whose sums of products stay in shared memory
static_assert(most_plane_rows * product_chunks <= filled_plane_threads);
constexpr int target_group = 8;  // whose sums a thread has in registers

// Rows of one thread in a turn: enough bytes on their way, and few enough registers.
constexpr int plane_thread_rows = 2;
static_assert(mask_rows % (most_plane_rows * plane_thread_rows) == 0);  // words of the masks end where turns end

// How the threads of a block lie on rows and their chunks. Sums of products with targets are kept for each column of a
// block: it has fewer of them then, where it need not have the whole row.
struct PlaneBlock {
  int chunks;
  int rows;   // at once
  int tiles;  // of columns, each of blocks of its own
  int threads;
  int targets;  // with which products are formed

  PlaneBlock(std::int64_t row_chunks, std::int64_t targets_, RowUse use)
      : tiles(0), threads(0), targets(static_cast<int>(targets_)) {
    const bool has_tiles = targets > 0 && use != RowUse::sifted;
    tiles = static_cast<int>(ceiling(row_chunks, has_tiles ? product_chunks : most_plane_threads));
    chunks = static_cast<int>(ceiling(row_chunks, tiles));
    rows = most_plane_rows;
    while (rows > 1 && rows * chunks > filled_plane_threads) rows /= 2;
    threads = static_cast<int>(round_up(rows * chunks, warp_lanes));
  }
  explicit PlaneBlock(const PlaneTask& task)
      : PlaneBlock(plane_row_stride(task.rows.rows) / chunk_columns, task.products.targets.columns, task.use) {}

  NRC_FAST_BOTH int turn_rows() const { return rows * plane_thread_rows; }
  NRC_FAST_BOTH int columns() const { return chunks * chunk_columns; }
  NRC_FAST_BOTH int padded_targets() const { return (targets + target_group - 1) / target_group * target_group; }
  // Numbers that threads give one another: for a row of each, or for all rows of a turn, of which products are formed.
  NRC_FAST_BOTH int numbers() const { return (targets > 0 ? turn_rows() : rows) * columns(); }
  std::int64_t shared_bytes() const {
    return (mask_rows + std::int64_t{numbers()} + std::int64_t{padded_targets()} * turn_rows() +
            std::int64_t{targets} * columns()) *
           8;
  }
};

struct PlaneArguments {
  PlaneTask task;
  PlaneBlock block;
  bool is_aligned;
};

// In shared memory: factors of the rows of a turn, numbers of threads, targets of the rows, sums of products.
NRC_FAST_DEVICE double* shared_factors() { return static_cast<double*>(static_cast<void*>(shared_memory())); }
NRC_FAST_DEVICE double* shared_numbers() { return shared_factors() + mask_rows; }

// Where the chunks of a thread are, of all of its rows.
template <class Row>
struct ThreadChunk {
  using Piece = RowPiece<Row>;

  int row;      // of those of a turn
  int place;    // of the chunk, among those of the block
  int columns;  // of the chunk, 0 where the thread has none
  std::int64_t first;
  const PlaneArguments& arguments;

  NRC_FAST_DEVICE explicit ThreadChunk(const PlaneArguments& arguments_)
      : row(thread_index() / arguments_.block.chunks),
        place(thread_index() % arguments_.block.chunks),
        columns(0),
        first((block_index_y() * arguments_.block.chunks + place) * chunk_columns),
        arguments(arguments_) {
    const std::int64_t left = rows().columns - first;
    if (row < arguments.block.rows && left > 0) columns = left < chunk_columns ? static_cast<int>(left) : chunk_columns;
  }

  NRC_FAST_DEVICE const MatrixView& rows() const { return arguments.task.rows.rows; }
  NRC_FAST_DEVICE bool has(std::int64_t of_row) const { return columns > 0 && of_row < rows().rows; }

  // Those of a turn whose first row, of this thread, is given. All loads first, and none in a branch: for rows that
  // are not there others are loaded. Columns that are not there become zeros.
  NRC_FAST_DEVICE void load(std::int64_t first_row, Piece (&pieces)[plane_thread_rows]) const {
    const std::int64_t step = arguments.block.rows * rows().row_stride;
    const Row* source = static_cast<const Row*>(rows().data);
    if (has(first_row)) source += first_row * rows().row_stride + first * rows().column_stride;
    const Row* sources[plane_thread_rows];
#pragma unroll
    for (int i = 0; i < plane_thread_rows; ++i) {
      const bool is_there = has(first_row + i * arguments.block.rows);
      sources[i] = source + (is_there ? i * step : 0);
      note_load(is_there ? columns * static_cast<int>(sizeof(Row)) : 0);
    }
    if (arguments.is_aligned) {
#pragma unroll
      for (int i = 0; i < plane_thread_rows; ++i) load_pieces(sources[i], pieces[i]);
    } else {
#pragma unroll
      for (int i = 0; i < plane_thread_rows; ++i) load_numbers(sources[i], pieces[i]);
    }
    if (columns < chunk_columns) {
#pragma unroll
      for (int i = 0; i < plane_thread_rows; ++i) pieces[i].template clear_from<1>(columns, 0);
    }
  }

 private:
  NRC_FAST_DEVICE void load_pieces(const Row* source, Piece& piece) const {
#pragma unroll
    for (int p = 0; p < Piece::loads; ++p) {
      const int column = p * Piece::at_once;
      piece.parts[p] = *reinterpret_cast<const SixteenBytes<Row>*>(source + (column < columns ? column : 0));
    }
  }
  NRC_FAST_DEVICE void load_numbers(const Row* source, Piece& piece) const {
#pragma unroll
    for (int v = 0; v < chunk_columns; ++v) {
      piece.parts[v / Piece::at_once].values[v % Piece::at_once] = source[v < columns ? v * rows().column_stride : 0];
    }
  }
};

}  // namespace nrc_fast::cuda
