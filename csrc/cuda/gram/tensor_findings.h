// Sums over columns, the largest number and the masks of rows from the stages that feed the tensor cores, of 16-bit
// rows as they are stored: each thread looks at the same columns. Tiles on the diagonal see every column once.
#pragma once

#include "cuda/gram/split.h"
#include "cuda/gram/tensor_ring.h"

namespace nrc_fast::cuda {

// float32 numbers of a sign have the order of their bits: those of the largest.
template <class Row>
NRC_FAST_DEVICE double largest_of_bits(std::uint32_t bits) {
  return small_double<Row>(bits) * small_double_unit<Row>();
}

// What a thread has seen of its columns, in chunks of rows.
template <class Row>
class ColumnFindings {
 public:
  NRC_FAST_DEVICE ColumnFindings() {
    clear_sums();
    largest_ = 0;
  }

  // The largest number of the chunk, by its bits: 0 where all are, and from infinity on where one is not finite.
  NRC_FAST_DEVICE std::uint32_t look(const ChunkWords& found) {
    std::uint32_t largest = 0;
#pragma unroll
    for (int w = 0; w < chunk_columns / 2; ++w) {
      const std::uint32_t bits = found.words[w];
      largest = larger_of(largest, larger_of(bits & 0x7fff0000u, bits << 16 & 0x7fff0000u));
      sums_[2 * w] += small_double<Row>(bits << 16) * small_double_unit<Row>();
      sums_[2 * w + 1] += small_double<Row>(bits) * small_double_unit<Row>();
    }
    largest_ = larger_of(largest_, largest);
    return largest;
  }

  // Adds the sums to eight numbers, and starts anew.
  NRC_FAST_DEVICE void add_to(double* target) {
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) target[i] += sums_[i];
    clear_sums();
  }

  NRC_FAST_DEVICE void keep_largest(std::int64_t* below) {
    double largest = warp_maximum(largest_of_bits<Row>(largest_));
    if (thread_index() % warp_lanes == 0) keep_exponent(below, largest);
    largest_ = 0;
  }

 private:
  NRC_FAST_DEVICE void clear_sums() {
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) sums_[i] = 0.0;
  }
  NRC_FAST_DEVICE static std::uint32_t larger_of(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

  double sums_[chunk_columns];
  std::uint32_t largest_;
};

// Marks what the lanes of a warp have seen of 32 rows.
NRC_FAST_DEVICE void mark_rows(const RowMasks& masks, std::int64_t word, std::uint32_t filled, std::uint32_t bad) {
  if (bad != 0) set_bits(masks.bad + word, bad);  // hardly ever
  filled = joined_bits<warp_lanes>(filled);
  if (thread_index() % warp_lanes == 0 && filled != 0) set_bits(masks.filled + word, filled);
}

template <class Row, class Gram>
class StageFindings {
 public:
  // `word` is the place of the block's 32 rows in the masks.
  NRC_FAST_DEVICE void see(const char* stage, const RowMasks& masks, std::int64_t word) {
    static_assert(Gram::stage_rows == 32);
    std::uint32_t filled = 0;
    std::uint32_t bad = 0;
    const char* const chunk = stage + thread_chunk_offset<Gram>();
    const int row = thread_index() / Gram::row_chunks;
#pragma unroll
    for (int i = 0; i < Gram::thread_rows; ++i) {
      const std::uint32_t largest = columns_.look(
          *static_cast<const ChunkWords*>(static_cast<const void*>(chunk + i * Gram::row_step * Gram::size * 2)));
      filled |= (largest != 0 ? 1u : 0u) << (row + i * Gram::row_step);
      bad |= (largest >= StoredBits<Row>::infinity ? 1u : 0u) << (row + i * Gram::row_step);
    }
    if (masks.filled != nullptr) mark_rows(masks, word, filled, bad);
  }

  // Adds to the sums of a slab, and starts anew.
  NRC_FAST_DEVICE void add_to(double* sums) { columns_.add_to(sums + thread_index() * chunk_columns); }
  NRC_FAST_DEVICE void keep_largest(std::int64_t* below) { columns_.keep_largest(below); }

 private:
  ColumnFindings<Row> columns_;
};

}  // namespace nrc_fast::cuda
