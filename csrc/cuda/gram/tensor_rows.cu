// Gram of rows that are no wider than a tile, in one kernel and one read: shifted, scaled to norm 1 where that is
// wanted, split into three bfloat16 numbers on the way to the tensor cores, and looked at while they are in registers.
//
// A thread copies, converts and looks at one chunk of eight columns of one row of each stage; nobody else needs what
// it has copied, so that the copies are in a ring of its own and wait for no barrier. Planes of two stages are in
// shared memory: one is multiplied while the next is written.
#include "cuda/gram/row_columns.h"
#include "cuda/gram/split.h"
#include "cuda/gram/tensor.h"
#include "cuda/gram/tensor_products.h"

namespace nrc_fast::cuda {
namespace {

struct RowGramArguments {
  MatrixView rows;
  const double* shift;  // may be null
  bool has_unit_rows;
  WorkPlan plan;
  double* slabs;
  TensorFindings findings;
  RowTargets targets;
  std::int64_t first_row;  // of these rows, in the pass
};

template <class Row_, int size, bool has_targets_>
struct RowGram : TensorGram<3, size, size == 64 ? 4 : 8, 1> {
  using Row = Row_;
  static constexpr bool has_targets = has_targets_;
  using Base = TensorGram<3, size, size == 64 ? 4 : 8, 1>;
  static constexpr int pieces = chunk_columns * static_cast<int>(sizeof(Row)) / 16;  // of 16 bytes, of a chunk
  static constexpr int piece_bytes = Base::threads * 16;                             // of all threads
  static constexpr int raw_bytes = pieces * piece_bytes;
  static constexpr int raw_stages = (size == 64 ? (24 << 10) : (48 << 10)) / raw_bytes;
  static constexpr int shift_bytes = size * 8;
  // Others look at the rows of a stage while the next one is converted, where there are targets.
  static constexpr int stages_ahead = raw_stages - (has_targets ? 2 : 1);
  static constexpr int target_stage_bytes = has_targets ? Base::stage_rows * target_pitch * 8 : 0;
  static constexpr int target_bytes =
      raw_stages * target_stage_bytes + (has_targets ? Base::threads / warp_lanes * converted_targets * 8 : 0);
  static constexpr int shared_bytes =
      2 * Base::stage_bytes + Base::sums_bytes + raw_stages * raw_bytes + shift_bytes + target_bytes;
  static_assert(Base::thread_rows == 1);
};

// Copies of one thread: its chunk, in the same place of every stage of the ring.
template <class Gram>
class RowCopies {
 public:
  using Row = typename Gram::Row;

  NRC_FAST_DEVICE RowCopies(const MatrixView& rows, const RowTargets& targets, std::int64_t first_sample, int count,
                            char* ring, char* target_ring)
      : ring_(ring + thread_index() * 16),
        count_(count),
        step_(rows.row_stride * Gram::stage_rows),
        targets_(targets, first_sample, target_ring) {
    const int row = thread_index() / Gram::row_chunks;
    const int column = thread_index() % Gram::row_chunks * chunk_columns;
    const std::int64_t left = rows.columns - column;
    const int columns = left <= 0 ? 0 : static_cast<int>(left < chunk_columns ? left : chunk_columns);
    valid_ = columns * static_cast<int>(sizeof(Row));
    source_ = static_cast<const Row*>(rows.data) + (first_sample + row) * rows.row_stride + (columns == 0 ? 0 : column);
    rows_left_ = rows.rows - first_sample - row;
#pragma unroll
    for (int s = 0; s < Gram::stages_ahead; ++s) start();
  }

  // The values of the next stage, zeros where there are none; starts the copy of one more.
  NRC_FAST_DEVICE void take(Row (&values)[chunk_columns]) {
    struct alignas(16) Piece {
      Row values[16 / sizeof(Row)];
    };
    wait_for_copies<Gram::stages_ahead - 1>();
#pragma unroll
    for (int p = 0; p < Gram::pieces; ++p) {
      const Piece piece = *static_cast<const Piece*>(static_cast<const void*>(place(taken_) + p * Gram::piece_bytes));
#pragma unroll
      for (int i = 0; i < static_cast<int>(16 / sizeof(Row)); ++i) values[p * (16 / sizeof(Row)) + i] = piece.values[i];
    }
    taken_ = after(taken_);
    start();
  }

 private:
  NRC_FAST_DEVICE static int after(int stage) { return stage + 1 == Gram::raw_stages ? 0 : stage + 1; }
  NRC_FAST_DEVICE char* place(int stage) const { return ring_ + stage * Gram::raw_bytes; }

  NRC_FAST_DEVICE void start() {
    if (count_ > 0) {
#pragma unroll
      for (int p = 0; p < Gram::pieces; ++p) {
        const int left = rows_left_ > 0 ? valid_ - p * 16 : 0;
        copy_async(place(started_) + p * Gram::piece_bytes, source_ + (left > 0 ? p * (16 / sizeof(Row)) : 0),
                   left < 0 ? 0 : (left < 16 ? left : 16));
      }
      if constexpr (Gram::has_targets) targets_.start(started_, rows_left_ > 0);
      source_ += step_;
      rows_left_ -= Gram::stage_rows;
      --count_;
      started_ = after(started_);
    }
    commit_copies();
  }

  char* ring_;
  int count_;  // of stages that are still to be copied
  std::int64_t step_;
  int valid_;
  const Row* source_;
  std::int64_t rows_left_;
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

  // `row` is that of the thread's chunk, among all of the launch.
  NRC_FAST_DEVICE void convert(const Row (&stored)[chunk_columns], std::int64_t row, char* planes) {
    double values[chunk_columns];
    bool is_filled = false;
    bool is_bad = false;
    const bool is_there = row < arguments_.rows.rows;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      const double value = as_double(stored[i]);
      is_filled = is_filled || value != 0.0;
      values[i] = is_there ? value - shift_[i] : 0.0;
      DoubleBits bits;
      bits.value = values[i];
      const auto high = static_cast<std::uint32_t>(bits.bits >> 32) & 0x7fffffffu;
      is_bad = is_bad || high >= 0x7ff00000u;
      largest_ = high > largest_ ? high : largest_;
      if constexpr (!Gram::has_targets) sums_[i] += values[i];
    }
    if (arguments_.has_unit_rows) scale_to_norm_1(values);
    write(values, planes);
    if (arguments_.findings.masks.filled != nullptr) mark(row, is_filled, is_bad);
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
  // The lanes of a row lie side by side.
  NRC_FAST_DEVICE static void scale_to_norm_1(double (&values)[chunk_columns]) {
    RowEnergy<false> energy;
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) energy.add(values[i]);
#pragma unroll
    for (int mask = Gram::row_chunks / 2; mask > 0; mask /= 2) energy.sum += shuffle_xor(energy.sum, mask);
    const double scale = energy.inverse_norm();
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) values[i] = scale == 0.0 ? 0.0 : values[i] * scale;
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

  NRC_FAST_DEVICE void mark(std::int64_t row, bool is_filled, bool is_bad) const {
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

template <class Gram>
NRC_FAST_GLOBAL(Gram::threads, 1)
gram_rows_kernel(RowGramArguments arguments) {
  if constexpr (!runs_largest_blocks) {
    fail();
    return;
  }
  char* const planes = shared_memory();
  char* const second_sums = planes + 2 * Gram::stage_bytes;
  char* const ring = second_sums + Gram::sums_bytes;
  double* const shift = static_cast<double*>(static_cast<void*>(ring + Gram::raw_stages * Gram::raw_bytes));
  // One tile: one segment for each worker.
  Segment segment{};
  if (!find_segment(arguments.plan, block_index(), 0, segment)) return;
  const int count = static_cast<int>(segment.last_block - segment.first_block);
  if (count == 0) return;
  for (int c = thread_index(); c < Gram::size; c += Gram::threads) {
    shift[c] = arguments.shift != nullptr && c < arguments.rows.columns ? arguments.shift[c] : 0.0;
  }
  synchronize_block();
  const std::int64_t first_sample = segment.first_block * Gram::stage_rows;
  char* const target_ring = ring + Gram::raw_stages * Gram::raw_bytes + Gram::shift_bytes;
  RowCopies<Gram> copies(arguments.rows, arguments.targets, first_sample, count, ring, target_ring);
  StageColumns<Gram> looked(arguments.rows, arguments.targets, first_sample, shift, ring, target_ring);
  RowConversion<Gram> conversion(arguments, shift);
  const WarpPlaces<Gram> places;
  Accumulators<Gram::accumulators> large;
  Accumulators<Gram::accumulators> small;
  FoldedSums<Gram> sums(second_sums);
  large.clear();
  small.clear();
  std::int64_t row = first_sample + thread_index() / Gram::row_chunks;
  typename Gram::Row stored[chunk_columns];
  copies.take(stored);
  conversion.convert(stored, row, planes);
  for (int b = 0; b < count;) {
    const int fold_end = b + Gram::fold_blocks() < count ? b + Gram::fold_blocks() : count;
    for (; b < fold_end; ++b) {
      synchronize_block();  // the planes are there for all threads, and all are done with those before
      if constexpr (Gram::has_targets) looked.see();
      row += Gram::stage_rows;
      if (b + 1 < count) {
        copies.take(stored);
        conversion.convert(stored, row, planes + (b + 1) % 2 * Gram::stage_bytes);
      }
      const char* const stage = planes + b % 2 * Gram::stage_bytes;
      multiply_block<true, Gram>(stage, stage, places, large, small);
    }
    fold_into(sums, small);
    fold_into(sums, large);
    if (b % Gram::slab_blocks == 0 || b == count) {
      add_to_slab(sums, arguments.slabs + segment.slab * (Gram::size * Gram::size));
      if (!Gram::has_targets && arguments.findings.sums != nullptr) {
        conversion.add_to(arguments.findings.sums + segment.slab * (Gram::row_step * Gram::size));
      }
    }
  }
  wait_for_copies<0>();
  if constexpr (Gram::has_targets) looked.add_to(arguments.targets.partial);
  if (arguments.findings.below != nullptr) conversion.keep_largest(arguments.findings.below);
}

template <class Row, int size, bool has_targets>
void launch_rows(const RowGramArguments& arguments, Stream stream) {
  using Gram = RowGram<Row, size, has_targets>;
  launch(gram_rows_kernel<Gram>, "gram_rows", {static_cast<unsigned>(arguments.plan.workers)}, Gram::threads,
         Gram::shared_bytes, stream, arguments);
}

template <class Row>
void launch_sizes(int size, const RowGramArguments& arguments, Stream stream) {
  const bool has_targets = arguments.targets.partial != nullptr;
  if (size == 64) {
    return has_targets ? launch_rows<Row, 64, true>(arguments, stream) : launch_rows<Row, 64, false>(arguments, stream);
  }
  has_targets ? launch_rows<Row, 128, true>(arguments, stream) : launch_rows<Row, 128, false>(arguments, stream);
}

}  // namespace

bool can_convert_rows(const MatrixView& rows, GramMethod method, const DeviceLimits& device) {
  const bool unit_stride = rows.column_stride == 1 || rows.columns == 1;
  const bool is_aligned =
      rows.row_stride * size_of(rows.dtype) % 16 == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
  return method == GramMethod::tensor_split && rows.columns <= 128 && unit_stride && is_aligned &&
         device.shared_memory_per_block >= RowGram<BFloat16, 128, true>::shared_bytes;
}

void add_converted_gram(const TensorShape& shape, const MatrixView& rows, const double* shift, bool has_unit_rows,
                        std::int64_t workers, double* slabs, const TensorFindings& findings, const RowTargets& targets,
                        Stream stream) {
  // Blocks of rows are counted with 32 bits.
  constexpr std::int64_t most_rows = std::int64_t{1} << 34;
  for (std::int64_t first = 0; first < rows.rows; first += most_rows) {
    const MatrixView part = part_of(rows, first, rows.rows - first < most_rows ? rows.rows - first : most_rows);
    const WorkPlan plan = plan_for(shape.method, part.rows, part.columns, workers);
    RowTargets beside = targets;
    if (targets.partial != nullptr) beside.targets = part_of(targets.targets, first, part.rows);
    const RowGramArguments arguments{part, shift, has_unit_rows, plan, slabs, findings, beside, first};
    if (rows.dtype == DType::float32) {
      launch_sizes<float>(shape.size, arguments, stream);
    } else if (rows.dtype == DType::float16) {
      launch_sizes<Float16>(shape.size, arguments, stream);
    } else {
      launch_sizes<BFloat16>(shape.size, arguments, stream);
    }
  }
}

}  // namespace nrc_fast::cuda
