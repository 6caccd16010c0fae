// The projection of tiles of 128 rows by tensor cores. Rows come by asynchronous copies into a ring of stages, and the
// basis with them, as the prepared records of its steps: `FragmentLayout`. Each warp has 32 rows, as four times eight,
// and copies them itself.
#pragma once

#include <cstddef>

#include "cuda/residual/arguments.h"

namespace nrc_fast::cuda {

constexpr int octets = 4;
constexpr int warp_rows = octets * 8;
static_assert(tensor_rows == residual_warps * warp_rows);
constexpr int fragment_bytes = warp_lanes * 16;

// Words of shared memory that one instruction reads.
template <int count>
struct alignas(count * 4) Numbers {
  std::uint32_t values[count];
};

template <class Row>
struct alignas(16) Piece {
  Row values[16 / sizeof(Row)];
};

template <class T>
NRC_FAST_DEVICE T read(const char* shared) {
  return *static_cast<const T*>(static_cast<const void*>(shared));
}

// Where 16 bytes of a row of an octet lie, which a lane copies: those of the same columns behind one another, so that
// ldmatrix reads them from different banks.
NRC_FAST_DEVICE int lane_slot() { return (thread_index() % 4 * 8 + thread_index() % warp_lanes / 4) * 16; }

// Not 0 where one of the numbers in some words is not, but for their signs: see `filled_without_signs`.
template <class Row, std::size_t count>
NRC_FAST_DEVICE std::uint32_t filled_bits(const std::uint32_t (&words)[count]) {
  // The sign of a float64 number is in its second word.
  constexpr std::uint32_t odd = sizeof(Row) == 8 ? 0x7fffffffu : 0xffffffffu;
  std::uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < static_cast<int>(count); ++i) bits |= i % 2 == 0 ? words[i] : words[i] & odd;
  return bits;
}

// Of the bits of all words of a row together, what is left without signs.
template <class Row>
NRC_FAST_DEVICE std::uint32_t filled_without_signs(std::uint32_t bits) {
  return bits & (sizeof(Row) == 2 ? 0x7fff7fffu : (sizeof(Row) == 4 ? 0x7fffffffu : 0xffffffffu));
}

// The products of the rows of a tile with the vectors of a basis. `Products` are those of a warp: its sums, and how it
// adds one step to them.
template <class Products>
class TensorProjection {
  using Row = typename Products::Row;

 public:
  static constexpr int piece_columns = 16 / static_cast<int>(sizeof(Row));
  static constexpr int row_pieces = Products::lane_columns / piece_columns;
  static constexpr std::int64_t step_width = 4 * Products::lane_columns;
  static constexpr int step_bytes = row_pieces * 64;  // of one row
  static constexpr int rows_bytes = tensor_rows * step_bytes;
  static constexpr int stage_bytes = rows_bytes + Products::record_bytes;
  static constexpr int stages = row_pieces == 1 ? 4 : 3;
  static constexpr int ring_bytes = stages * stage_bytes;
  static constexpr int blocks_at_once = Products::wide == 1 && row_pieces == 1 ? 3 : 2;

  NRC_FAST_DEVICE TensorProjection(const ProjectedRows& arguments, char* ring) : arguments_(arguments), ring_(ring) {}

  NRC_FAST_DEVICE static int lane() { return thread_index() % warp_lanes; }
  NRC_FAST_DEVICE static int row_of_octet(int octet) {
    return thread_index() / warp_lanes * warp_rows + octet * 8 + lane() / 4;
  }
  // Of the group, in a lane's elements of one row.
  NRC_FAST_DEVICE static int vector_of(int index) { return index / 2 * 8 + lane() % 4 * 2 + index % 2; }

  // Of one row of a lane, after its last step, and of the vector with an index of a lane's elements.
  NRC_FAST_DEVICE double coefficient(int octet, int index) const {
    return products_.totals[octet][index / 2][index % 2];
  }
  NRC_FAST_DEVICE bool has_row(int octet) const { return octet * 8 < rows_left_; }

  // Copies of the first steps of a tile, if there is one; all threads are done with the ring.
  NRC_FAST_DEVICE void start(std::int64_t tile) {
    const MatrixView& rows = arguments_.features;
    if (tile * tensor_rows >= rows.rows) return;
    const std::int64_t row = tile * tensor_rows + thread_index() / warp_lanes * warp_rows + lane() / 4;
    const std::int64_t left = rows.rows - row;
    rows_left_ = static_cast<int>(left < warp_rows ? left : warp_rows);
    lane_rows_ = static_cast<const Row*>(rows.data) + (rows_left_ > 0 ? row : 0) * rows.row_stride;
    copied_step_ = 0;
    copied_record_ = 0;
#pragma unroll 1
    for (int s = 0; s < stages - 1; ++s) copy_step(s * stage_bytes);
  }

  // The tile that was started: `finish_group` is called when the coefficients of a group of vectors are there. Those of
  // the last group stay.
  template <class FinishGroup>
  NRC_FAST_DEVICE void project(const FinishGroup& finish_group) {
    int place = 0;  // of the stage that is multiplied; the one before it is filled
#pragma unroll 1
    for (int group = 0; group < static_cast<int>(arguments_.layout.groups); ++group) {
      products_.clear();
#pragma unroll 1
      for (int step = 1; step <= steps(); ++step) {
        wait_for_copies<stages - 2>();
        synchronize_block();  // the step has arrived for all threads, and all are done with the one before it
        copy_step((place == 0 ? ring_bytes : place) - stage_bytes);
        products_.add(ring_ + place + warp_slots(), ring_ + place + rows_bytes);
        if (step == steps() || step % Products::fold_steps == 0) products_.fold();
        place = place + stage_bytes == ring_bytes ? 0 : place + stage_bytes;
      }
      finish_coefficients(group);
      finish_group(group);
    }
  }

  // Energy of the row of octet `lane() % 4`, of which the four lanes of a row have each seen a part, and whether the
  // row is there and zero.
  NRC_FAST_DEVICE double row_energy(bool& is_zero) const {
    double own_energy = 0.0;
    is_zero = false;
#pragma unroll
    for (int o = 0; o < octets; ++o) {
      double energy = products_.energies[o];
      std::uint32_t filled = products_.filled[o];
#pragma unroll
      for (int mask = 1; mask < 4; mask *= 2) {
        energy += shuffle_xor(energy, mask);
        filled |= shuffle_xor(filled, mask);
      }
      if (lane() % 4 == o && has_row(o)) {
        own_energy = energy;
        is_zero = filled_without_signs<Row>(filled) == 0;
      }
    }
    return own_energy;
  }

 private:
  // Where the rows of a warp are in a stage.
  NRC_FAST_DEVICE static int warp_slots() {
    return thread_index() / warp_lanes * (octets * row_pieces * fragment_bytes);
  }
  NRC_FAST_DEVICE int steps() const { return static_cast<int>(arguments_.layout.steps); }
  NRC_FAST_DEVICE int whole_steps() const {
    return static_cast<int>(static_cast<std::uint64_t>(arguments_.features.columns) / step_width);
  }

  // The next step of the tile, if there is one, into the stage at a place of the ring.
  NRC_FAST_DEVICE void copy_step(int stage) {
    if (copied_record_ < static_cast<int>(arguments_.layout.groups) * steps()) {
      char* const target = ring_ + stage;
      if (arguments_.are_copyable) {
        copy_rows(target + warp_slots() + lane_slot());
      } else {
        load_rows(target + warp_slots() + lane_slot());
      }
      copy_record(target + rows_bytes);
      if (++copied_step_ == steps()) copied_step_ = 0;
      ++copied_record_;
    }
    commit_copies();
  }

  NRC_FAST_DEVICE void copy_rows(char* slots) const {
    const MatrixView& rows = arguments_.features;
    const std::int64_t stride = rows.row_stride * 8 * static_cast<std::int64_t>(sizeof(Row));
    const unsigned lane_bytes = static_cast<unsigned>(lane()) % 4 * 16;
    const char* place = static_cast<const char*>(static_cast<const void*>(lane_rows_)) + lane_bytes +
                        static_cast<std::int64_t>(copied_step_) * step_bytes;
    // Almost everywhere all is there, and the number of bytes need not be computed.
    if (rows_left_ > (octets - 1) * 8 && copied_step_ < whole_steps()) {
#pragma unroll
      for (int i = 0; i < octets * row_pieces; ++i) {
        copy_async(slots + i * fragment_bytes, place + i % row_pieces * 64);
        if (i % row_pieces == row_pieces - 1) place += stride;
      }
      return;
    }
    const std::int64_t left =
        (rows.columns - copied_step_ * step_width) * static_cast<std::int64_t>(sizeof(Row)) - lane_bytes;
#pragma unroll 1
    for (int i = 0; i < octets * row_pieces; ++i) {
      const std::int64_t bytes = left - i % row_pieces * 64;
      const int valid = bytes < 0 || i / row_pieces * 8 >= rows_left_ ? 0 : (bytes < 16 ? static_cast<int>(bytes) : 16);
      copy_async(slots + i * fragment_bytes, place + i % row_pieces * 64, valid);
      if (i % row_pieces == row_pieces - 1) place += stride;
    }
  }

  // Rows of any strides: all loads of a piece come first, from the first row or column where there is none.
  NRC_FAST_DEVICE void load_rows(char* slots) const {
    const MatrixView& rows = arguments_.features;
#pragma unroll 1
    for (int p = 0; p < row_pieces; ++p) {
      const std::int64_t first =
          (static_cast<std::int64_t>(copied_step_) * row_pieces + p) * (4 * piece_columns) + lane() % 4 * piece_columns;
      const std::int64_t left = rows.columns - first;
      const int count = static_cast<int>(left < piece_columns ? left : piece_columns);
      const Row* place = lane_rows_ + (count > 0 ? first * rows.column_stride : 0);
#pragma unroll 1
      for (int o = 0; o < octets; o += 2) {
        Piece<Row> pieces[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const Row* const source = place + ((o + i) * 8 < rows_left_ ? (o + i) * 8 * rows.row_stride : 0);
#pragma unroll
          for (int c = 0; c < piece_columns; ++c) pieces[i].values[c] = source[c < count ? c * rows.column_stride : 0];
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int c = 0; c < piece_columns; ++c) {
            if ((o + i) * 8 >= rows_left_ || c >= count) pieces[i].values[c] = Row{};
          }
          *static_cast<Piece<Row>*>(static_cast<void*>(slots + ((o + i) * row_pieces + p) * fragment_bytes)) =
              pieces[i];
        }
      }
    }
  }

  NRC_FAST_DEVICE void copy_record(char* target) const {
    constexpr int pieces = Products::record_bytes / 16;
    const unsigned first = static_cast<unsigned>(thread_index()) * 16;
    const char* const source =
        arguments_.records + static_cast<std::int64_t>(copied_record_) * Products::record_bytes + first;
#pragma unroll
    for (int piece = 0; piece < pieces; piece += residual_threads) {
      const bool has_all_lanes = piece + residual_threads <= pieces;
      if (has_all_lanes || piece + thread_index() < pieces) {
        copy_async(target + first + piece * 16, source + piece * 16);
      }
    }
  }

  // Of the vectors as they were before they were prepared; 0 for rows that are not there, which were shifted too.
  NRC_FAST_DEVICE void finish_coefficients(int group) {
#pragma unroll
    for (int i = 0; i < Products::wide * 2; ++i) {
      double scale = 1.0;
      if constexpr (Products::is_scaled) {
        scale = arguments_.inverse_scales[group * Products::wide * 8 + vector_of(i)];
      }
#pragma unroll
      for (int o = 0; o < octets; ++o) {
        double& coefficient = products_.totals[o][i / 2][i % 2];
        coefficient = has_row(o) ? coefficient * scale : 0.0;
      }
    }
  }

  const ProjectedRows& arguments_;
  char* ring_;
  Products products_;
  const Row* lane_rows_ = nullptr;
  int rows_left_ = 0;
  int copied_step_ = 0;  // that is copied next: of its group, and of all
  int copied_record_ = 0;
};

}  // namespace nrc_fast::cuda
