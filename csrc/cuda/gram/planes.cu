// Rows as planes of 16-bit numbers for the tensor cores: copied, rounded to bfloat16, or split into three bfloat16
// numbers whose sum is the row to 24 bits, and what else is to be known of the rows, in one read.
//
// A block goes through turns of rows that lie one after the other. A thread has the same chunk of eight columns in all
// of them, whose sums and shifts stay in its registers, of several rows in each turn, which it loads before it uses
// one. Where a row is multiplied with what all of its numbers tell, its block has the whole row.
#include "cuda/gram/plane_products.h"
#include "cuda/gram/split.h"
#include "cuda/gram/tensor_findings.h"

namespace nrc_fast::cuda {
namespace {

constexpr std::int64_t bytes_at_once = std::int64_t{256} << 20;
static_assert(whole_plane_columns == most_plane_threads * chunk_columns);

template <RowUse use>
constexpr bool is_looked_at = use == RowUse::looked_at || use == RowUse::sifted;
template <RowUse use>
constexpr bool has_own_factors = use == RowUse::sifted || use == RowUse::normed;

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

  // Threads of the same columns add to the sums of their block, in the order of their rows. All are done with what
  // they have told one another before.
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
#pragma unroll
    for (int v = 0; v < chunk_columns; ++v) {
      if (v < chunk.columns) sums[chunk.first + v] += sums_[v];
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
                                  std::int64_t first_row, const RowPiece<Row> (&pieces)[plane_thread_rows]) {
  const PlaneBlock& block = chunk.arguments.block;
  const PlaneTask& task = chunk.arguments.task;
  double* const energies = shared_numbers();
#pragma unroll
  for (int i = 0; i < plane_thread_rows; ++i) {
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

template <class Row, PlaneContent content, RowUse use, bool has_products>
NRC_FAST_GLOBAL(most_plane_threads, 1)
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
  PlaneProducts<use, has_products> products(arguments);
  const int turn_rows = block.turn_rows();
  const WorkPlan shares{1, task.workers, ceiling(chunk.rows().rows, turn_rows)};
  const std::int64_t end = shares.block_at(block_index() + 1);
  for (std::int64_t turn = shares.block_at(block_index()); turn < end; ++turn) {
    const std::int64_t first_row = turn * turn_rows;
    RowPiece<Row> pieces[plane_thread_rows];
    chunk.load(first_row + chunk.row, pieces);
    if constexpr (has_products) {
      synchronize_block();  // all have read the numbers of the turn before
      products.convert_targets(first_row);
    }
    if constexpr (has_own_factors<use>) find_factors<Row, use>(chunk, shifts, first_row, pieces);
#pragma unroll
    for (int i = 0; i < plane_thread_rows; ++i) {
      const int of_turn = i * block.rows + chunk.row;
      const std::int64_t row = first_row + of_turn;
      if (!chunk.has(row)) {
        if constexpr (has_products) {
          if (chunk.columns > 0) products.give(of_turn, chunk.place, {});
        }
        continue;
      }
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
        if constexpr (has_products) products.give(of_turn, chunk.place, values);
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
    if constexpr (has_products) {
      synchronize_block();  // the numbers of the turn and its targets are there
      products.add();
    }
  }
  if constexpr (is_looked_at<use>) {
    if (task.findings.below != nullptr) look.keep_largest(task.findings.below);
    if constexpr (has_products) {
      products.write();
      synchronize_block();  // all have read the numbers of the last turn
    }
    double* const sums = has_products ? products.sums_of_block() : task.findings.sums;
    if (sums != nullptr) look.add_to(has_products ? sums : sums + block_index() * chunk.rows().columns, chunk);
  }
}

// Calls `use_kernel(kernel, type of the rows)` for the kernel of a task.
template <class Row, PlaneContent content, class Use>
void with_row_use(RowUse use, bool has_products, const Use& use_kernel) {
  if (use == RowUse::plain) return use_kernel(planes_kernel<Row, content, RowUse::plain, false>, Row{});
  if (use == RowUse::normed) return use_kernel(planes_kernel<Row, content, RowUse::normed, false>, Row{});
  if (use == RowUse::looked_at) {
    return has_products ? use_kernel(planes_kernel<Row, content, RowUse::looked_at, true>, Row{})
                        : use_kernel(planes_kernel<Row, content, RowUse::looked_at, false>, Row{});
  }
  has_products ? use_kernel(planes_kernel<Row, content, RowUse::sifted, true>, Row{})
               : use_kernel(planes_kernel<Row, content, RowUse::sifted, false>, Row{});
}

template <class Use>
void with_plane_kernel(const PlaneTask& task, const Use& use_kernel) {
  const bool has_products = task.products.targets.columns > 0;
  with_row_type(task.rows.rows.dtype, [&](auto row) {
    using Row = decltype(row);
    // float64 rows are multiplied as such.
    if constexpr (sizeof(Row) < 8) {
      if (task.content == PlaneContent::split) {
        return with_row_use<Row, PlaneContent::split>(task.use, has_products, use_kernel);
      }
      if (task.content == PlaneContent::rounded) {
        return with_row_use<Row, PlaneContent::rounded>(task.use, has_products, use_kernel);
      }
    }
    if constexpr (sizeof(Row) == 2) use_kernel(planes_kernel<Row, PlaneContent::copied, RowUse::plain, false>, row);
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

bool can_form_plane_products(const MatrixView& rows, const MatrixView& targets, RowUse use,
                             const DeviceLimits& device) {
  const PlaneBlock block(plane_row_stride(rows) / chunk_columns, targets.columns, use);
  return block.shared_bytes() <= device.shared_memory_per_block;
}

std::int64_t plane_workers(const PlaneTask& task, std::int64_t rows, std::int64_t multiprocessors) {
  const PlaneBlock block(task);
  std::int64_t workers = 1;
  with_plane_kernel(task, [&](auto kernel, auto) {
    const std::int64_t turns = ceiling(rows, block.turn_rows());
    const std::int64_t at_once = resident_blocks(kernel, "planes", block.threads, block.shared_bytes());
    const std::int64_t filling = ceiling(multiprocessors * at_once, block.tiles);
    workers = turns < filling ? turns : filling;
  });
  return workers;
}

void write_planes(const PlaneTask& task, Stream stream) {
  const MatrixView& rows = task.rows.rows;
  if (rows.rows == 0) return;
  const PlaneBlock block(task);
  const Grid grid{static_cast<unsigned>(task.workers), static_cast<unsigned>(block.tiles)};
  with_plane_kernel(task, [&](auto kernel, auto row) {
    const PlaneArguments arguments{task, block, has_aligned_pieces<decltype(row)>(rows)};
    launch(kernel, "planes", grid, block.threads, block.shared_bytes(), stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
