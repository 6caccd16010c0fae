// Rows as planes of 16-bit numbers for the tensor cores: copied, rounded to bfloat16, or split into three bfloat16
// numbers whose sum is the row to 24 bits, and what else is to be known of the rows, in one read.
//
// A block goes through turns of rows that lie one after the other. A thread has the same chunk of eight columns in all
// of them, whose sums and shifts stay in its registers, of several rows in each turn, which it loads before it uses
// one. Where a row is multiplied with what all of its numbers tell, its block has the whole row.
#include "cuda/gram/prepare.h"
#include "cuda/gram/row_pieces.h"
#include "cuda/gram/split.h"
#include "cuda/gram/tensor_findings.h"

namespace nrc_fast::cuda {
namespace {

constexpr int most_threads = 512;
constexpr int filled_threads = 256;  // of blocks that have several rows at once
constexpr int most_rows_at_once = 8;
constexpr std::int64_t bytes_at_once = std::int64_t{256} << 20;
static_assert(whole_plane_columns == most_threads * chunk_columns);

template <RowUse use>
constexpr bool is_looked_at = use == RowUse::looked_at || use == RowUse::sifted;
template <RowUse use>
constexpr bool has_own_factors = use == RowUse::sifted || use == RowUse::normed;

// Rows of one thread in a turn: enough bytes on their way, and few enough registers.
constexpr int thread_rows = 2;
static_assert(mask_rows % (most_rows_at_once * thread_rows) == 0);  // words of the masks end where turns end

// How the threads of a block lie on rows and their chunks.
struct PlaneBlock {
  int chunks;
  int rows;   // at once
  int tiles;  // of columns, each of blocks of its own
  int threads;

  explicit PlaneBlock(std::int64_t row_chunks)
      : tiles(static_cast<int>(ceiling(row_chunks, most_threads))), threads(0) {
    chunks = static_cast<int>(ceiling(row_chunks, tiles));
    rows = most_rows_at_once;
    while (rows > 1 && rows * chunks > filled_threads) rows /= 2;
    threads = static_cast<int>(round_up(rows * chunks, warp_lanes));
  }
  NRC_FAST_BOTH int turn_rows() const { return rows * thread_rows; }
};

struct PlaneArguments {
  PlaneTask task;
  PlaneBlock block;
  bool is_aligned;
};

// Factors of the rows of a turn, and behind them numbers of threads that are to be added up.
constexpr int factor_bytes = mask_rows * 8;
std::int64_t shared_bytes(const PlaneBlock& block) {
  return factor_bytes + std::int64_t{block.rows} * block.chunks * chunk_columns * 8;
}
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
  NRC_FAST_DEVICE void load(std::int64_t first_row, Piece (&pieces)[thread_rows]) const {
    const std::int64_t step = arguments.block.rows * rows().row_stride;
    const Row* source = static_cast<const Row*>(rows().data);
    if (has(first_row)) source += first_row * rows().row_stride + first * rows().column_stride;
    const Row* sources[thread_rows];
#pragma unroll
    for (int i = 0; i < thread_rows; ++i) {
      const bool is_there = has(first_row + i * arguments.block.rows);
      sources[i] = source + (is_there ? i * step : 0);
      note_load(is_there ? columns * static_cast<int>(sizeof(Row)) : 0);
    }
    if (arguments.is_aligned) {
#pragma unroll
      for (int i = 0; i < thread_rows; ++i) load_pieces(sources[i], pieces[i]);
    } else {
#pragma unroll
      for (int i = 0; i < thread_rows; ++i) load_numbers(sources[i], pieces[i]);
    }
    if (columns < chunk_columns) {
#pragma unroll
      for (int i = 0; i < thread_rows; ++i) pieces[i].template clear_from<1>(columns, 0);
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

NRC_FAST_DEVICE std::uint32_t stored_bits(float value) {
  FloatBits bits;
  bits.value = value;
  return bits.bits;
}
NRC_FAST_DEVICE std::uint32_t stored_bits(Float16 value) { return value.bits; }
NRC_FAST_DEVICE std::uint32_t stored_bits(BFloat16 value) { return value.bits; }

// Whether a number is not zero, of either sign.
template <class Row>
NRC_FAST_DEVICE bool is_filled(const RowPiece<Row>& piece) {
  std::uint32_t bits = 0;
#pragma unroll
  for (int v = 0; v < chunk_columns; ++v) bits |= stored_bits(piece.value(v));
  return (bits & (sizeof(Row) == 4 ? 0x7fffffffu : 0x7fffu)) != 0;
}

// What a thread has seen of its chunks.
class ChunkLook {
 public:
  NRC_FAST_DEVICE ChunkLook() {
#pragma unroll
    for (int v = 0; v < chunk_columns; ++v) sums_[v] = 0.0;
  }

  // A row that is left out has zeros, and counts as filled and as bad.
  NRC_FAST_DEVICE void see(const double (&values)[chunk_columns], bool is_filled, bool is_left_out, int bit) {
    std::uint32_t largest = 0;
#pragma unroll
    for (int v = 0; v < chunk_columns; ++v) {
      sums_[v] += values[v];
      largest = larger(largest, upper_half(values[v]));
    }
    largest_ = larger(largest_, largest);
    filled_ |= (is_filled || is_left_out ? 1u : 0u) << bit;
    bad_ |= (largest >= nonfinite_half || is_left_out ? 1u : 0u) << bit;
  }

  // What the lanes of a warp have seen of the rows of a word.
  NRC_FAST_DEVICE void mark(const RowMasks& masks, std::int64_t word) {
    if (masks.filled != nullptr) mark_rows(masks, word, filled_, bad_);
    filled_ = 0;
    bad_ = 0;
  }

  NRC_FAST_DEVICE void keep_largest(std::int64_t* below) const {
    const double largest = warp_maximum(from_upper_half(largest_));
    if (thread_index() % warp_lanes == 0) keep_exponent(below, largest);
  }

  // Threads of the same columns add to the sums of their block, in the order of their rows.
  template <class Row>
  NRC_FAST_DEVICE void add_to(double* sums, const ThreadChunk<Row>& chunk) {
    const PlaneBlock& block = chunk.arguments.block;
    const int block_columns = block.chunks * chunk_columns;
    double* const shared = shared_numbers() + chunk.place * chunk_columns;
    if (block.rows > 1) {
      if (chunk.row > 0 && chunk.columns > 0) {
#pragma unroll
        for (int v = 0; v < chunk_columns; ++v) shared[chunk.row * block_columns + v] = sums_[v];
      }
      synchronize_block();
      if (chunk.row > 0) return;
      for (int row = 1; row < block.rows; ++row) {
#pragma unroll
        for (int v = 0; v < chunk_columns; ++v) {
          if (v < chunk.columns) sums_[v] += shared[row * block_columns + v];
        }
      }
    }
    if (chunk.row > 0) return;
    double* const target = sums + block_index() * chunk.rows().columns + chunk.first;
#pragma unroll
    for (int v = 0; v < chunk_columns; ++v) {
      if (v < chunk.columns) target[v] += sums_[v];
    }
  }

 private:
  double sums_[chunk_columns];
  std::uint32_t largest_ = 0;  // upper halves of |h - shift|
  std::uint32_t filled_ = 0;   // rows of a word
  std::uint32_t bad_ = 0;
};

// What the rows of a turn are multiplied with, by all of their numbers: 1 over the norm, or whether they are finite.
template <class Row, RowUse use>
NRC_FAST_DEVICE void find_factors(const ThreadChunk<Row>& chunk, const double (&shifts)[chunk_columns],
                                  std::int64_t first_row, const RowPiece<Row> (&pieces)[thread_rows]) {
  const PlaneBlock& block = chunk.arguments.block;
  const PlaneTask& task = chunk.arguments.task;
  double* const energies = shared_numbers();
#pragma unroll
  for (int i = 0; i < thread_rows; ++i) {
    RowEnergy<false> energy;
#pragma unroll
    for (int v = 0; v < chunk_columns; ++v) {
      // Squares of numbers as they are stored are finite where these are.
      energy.add(as_double(pieces[i].value(v)) - (use == RowUse::normed ? shifts[v] : 0.0));
    }
    if (chunk.columns > 0) energies[(i * block.rows + chunk.row) * block.chunks + chunk.place] = energy.sum;
  }
  synchronize_block();
  const int lane = thread_index() % warp_lanes;
  const int warp = thread_index() / warp_lanes;
  const int warps = block.threads / warp_lanes;
  const int turn_rows = block.turn_rows();
  // Warps add up rows, and a lane for each of them finds its factor.
  double own_energy = 0.0;
  int of_warp = 0;
  for (int r = warp; r < turn_rows; r += warps) {
    RowEnergy<false> energy;
    for (int c = lane; c < block.chunks; c += warp_lanes) energy.sum += energies[r * block.chunks + c];
    energy.join_warp();
    if (lane == of_warp) own_energy = energy.sum;
    ++of_warp;
  }
  const int own = warp + lane * warps;
  const std::int64_t row = first_row + own;
  if (own < turn_rows && row < chunk.rows().rows) {
    const RowEnergy<false> energy{own_energy};
    double factor = use == RowUse::normed ? energy.inverse_norm() : (is_finite(own_energy) ? 1.0 : 0.0);
    if (task.rows.scale != nullptr && task.rows.scale[row] == 0.0) factor = 0.0;
    shared_factors()[own] = factor;
    if constexpr (use == RowUse::sifted) task.findings.kept[row] = factor;
  }
  synchronize_block();
}

template <class Row, PlaneContent content, RowUse use>
NRC_FAST_GLOBAL(most_threads, 1)
planes_kernel(PlaneArguments arguments) {
  constexpr int parts = content == PlaneContent::split ? 3 : 1;
  const PlaneTask& task = arguments.task;
  const PlaneBlock& block = arguments.block;
  const ThreadChunk<Row> chunk(arguments);
  double shifts[chunk_columns];
#pragma unroll
  for (int v = 0; v < chunk_columns; ++v) {
    shifts[v] = task.rows.shift != nullptr && v < chunk.columns ? task.rows.shift[chunk.first + v] : 0.0;
  }
  ChunkLook look;
  const int turn_rows = block.turn_rows();
  const WorkPlan shares{1, task.workers, ceiling(chunk.rows().rows, turn_rows)};
  const std::int64_t end = shares.block_at(block_index() + 1);
  for (std::int64_t turn = shares.block_at(block_index()); turn < end; ++turn) {
    const std::int64_t first_row = turn * turn_rows;
    RowPiece<Row> pieces[thread_rows];
    chunk.load(first_row + chunk.row, pieces);
    if constexpr (has_own_factors<use>) find_factors<Row, use>(chunk, shifts, first_row, pieces);
#pragma unroll
    for (int i = 0; i < thread_rows; ++i) {
      const int of_turn = i * block.rows + chunk.row;
      const std::int64_t row = first_row + of_turn;
      if (!chunk.has(row)) continue;
      ChunkWords words[parts];
      if constexpr (content == PlaneContent::copied) {
#pragma unroll
        for (int w = 0; w < chunk_columns / 2; ++w) {
          words[0].words[w] = stored_bits(pieces[i].value(2 * w)) | stored_bits(pieces[i].value(2 * w + 1)) << 16;
        }
      } else {
        double values[chunk_columns];
#pragma unroll
        for (int v = 0; v < chunk_columns; ++v) values[v] = as_double(pieces[i].value(v)) - shifts[v];
        bool is_left_out = false;
        if (has_own_factors<use> || task.rows.scale != nullptr) {
          const double factor = has_own_factors<use> ? shared_factors()[of_turn] : task.rows.scale[row];
          is_left_out = factor == 0.0;
#pragma unroll
          for (int v = 0; v < chunk_columns; ++v) values[v] = is_left_out ? 0.0 : values[v] * factor;
        }
        if constexpr (is_looked_at<use>) {
          look.see(values, is_filled(pieces[i]), is_left_out, static_cast<int>(row % mask_rows));
        }
        split(values, words);
      }
      std::uint16_t* const target = task.planes + row * task.row_stride + chunk.first;
#pragma unroll
      for (int part = 0; part < parts; ++part) {
        *static_cast<ChunkWords*>(static_cast<void*>(target + part * task.plane_stride)) = words[part];
      }
    }
    if constexpr (is_looked_at<use>) {
      if ((first_row + turn_rows) % mask_rows == 0 || turn + 1 == end) {
        look.mark(task.findings.masks, first_row / mask_rows);
      }
    }
  }
  if constexpr (is_looked_at<use>) {
    if (task.findings.below != nullptr) look.keep_largest(task.findings.below);
    if (task.findings.sums != nullptr) look.add_to(task.findings.sums, chunk);
  }
}

// Calls `use_kernel(kernel, type of the rows)` for the kernel of a task.
template <class Row, PlaneContent content, class Use>
void with_row_use(RowUse use, const Use& use_kernel) {
  switch (use) {
    case RowUse::plain:
      return use_kernel(planes_kernel<Row, content, RowUse::plain>, Row{});
    case RowUse::looked_at:
      return use_kernel(planes_kernel<Row, content, RowUse::looked_at>, Row{});
    case RowUse::sifted:
      return use_kernel(planes_kernel<Row, content, RowUse::sifted>, Row{});
    default:
      return use_kernel(planes_kernel<Row, content, RowUse::normed>, Row{});
  }
}

template <class Use>
void with_plane_kernel(DType dtype, PlaneContent content, RowUse use, const Use& use_kernel) {
  with_row_type(dtype, [&](auto row) {
    using Row = decltype(row);
    // float64 rows are multiplied as such.
    if constexpr (sizeof(Row) < 8) {
      if (content == PlaneContent::split) return with_row_use<Row, PlaneContent::split>(use, use_kernel);
      if (content == PlaneContent::rounded) return with_row_use<Row, PlaneContent::rounded>(use, use_kernel);
    }
    if constexpr (sizeof(Row) == 2) use_kernel(planes_kernel<Row, PlaneContent::copied, RowUse::plain>, row);
  });
}

}  // namespace

int plane_count(GramMethod method) { return method == GramMethod::tensor_split ? 3 : 1; }

std::int64_t plane_row_stride(const MatrixView& rows) { return round_up(rows.columns, chunk_columns); }

std::int64_t plane_rows(const MatrixView& rows, GramMethod method, std::int64_t wanted) {
  const std::int64_t row_bytes = plane_row_stride(rows) * 2 * plane_count(method);
  const std::int64_t most = bytes_at_once / row_bytes / 8192 * 8192;
  const std::int64_t at_once = wanted > 0 ? wanted : (most < 8192 ? 8192 : most);
  return rows.rows < at_once ? rows.rows : round_up(at_once, mask_rows);
}

std::int64_t plane_workers(const MatrixView& rows, PlaneContent content, RowUse use, std::int64_t multiprocessors) {
  const PlaneBlock block(plane_row_stride(rows) / chunk_columns);
  std::int64_t workers = 1;
  with_plane_kernel(rows.dtype, content, use, [&](auto kernel, auto) {
    const std::int64_t turns = ceiling(rows.rows, block.turn_rows());
    const std::int64_t at_once = resident_blocks(kernel, "planes", block.threads, shared_bytes(block));
    const std::int64_t filling = ceiling(multiprocessors * at_once, block.tiles);
    workers = turns < filling ? turns : filling;
  });
  return workers;
}

void write_planes(const PlaneTask& task, Stream stream) {
  const MatrixView& rows = task.rows.rows;
  if (rows.rows == 0) return;
  const PlaneBlock block(task.row_stride / chunk_columns);
  const Grid grid{static_cast<unsigned>(task.workers), static_cast<unsigned>(block.tiles)};
  with_plane_kernel(rows.dtype, task.content, task.use, [&](auto kernel, auto row) {
    const PlaneArguments arguments{task, block, has_aligned_pieces<decltype(row)>(rows)};
    launch(kernel, "planes", grid, block.threads, shared_bytes(block), stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
