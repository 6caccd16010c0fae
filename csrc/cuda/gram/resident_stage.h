// Rows of a product with a Gram in one read, on their way into the stages of a block, and where they lie there.
#pragma once

#include "cuda/gram/product_kernels.h"
#include "cuda/gram/resident_product.h"

namespace nrc_fast::cuda {

template <class Row>
class ResidentStage {
 protected:
  NRC_FAST_DEVICE explicit ResidentStage(const ResidentArguments& arguments) : arguments_(arguments) {}

  static constexpr int size = sizeof(Row);
  static constexpr int octets = octets_of(size);
  static constexpr int warp_rows = octets * octet_rows;
  static constexpr int at_once = RowPiece<Row>::at_once;
  static constexpr int loads = RowPiece<Row>::loads;

  // What is computed from it takes no registers from one use to the next.
  NRC_FAST_DEVICE static int lane() { return static_cast<int>(thread_index_again() % warp_lanes); }
  NRC_FAST_DEVICE static int warp() { return static_cast<int>(thread_index_again() / warp_lanes); }
  NRC_FAST_DEVICE WarpPlace& place_of_warp() const { return shared_at<WarpPlace>(arguments_.layout.places)[warp()]; }
  // Of what lies in a stage for a warp.
  NRC_FAST_DEVICE int stage_place(const WarpPlace& place) const {
    return place.row * arguments_.layout.pitch + place.column * size;
  }
  NRC_FAST_DEVICE std::int64_t first_row(int step, const WarpPlace& place) const {
    return static_cast<std::int64_t>(step) * arguments_.layout.stage_rows + place.row;
  }
  // Of a warp in a step, none or fewer in the last.
  NRC_FAST_DEVICE int rows_left(int step, const WarpPlace& place) const {
    if (step < arguments_.whole_steps) return warp_rows;
    const std::int64_t left = arguments_.features.rows - first_row(step, place);
    return static_cast<int>(left < warp_rows ? left : warp_rows);
  }

  template <class Value>
  NRC_FAST_DEVICE static Value* shared_at(int place) {
    return static_cast<Value*>(static_cast<void*>(shared_memory() + place));
  }
  NRC_FAST_DEVICE static SixteenBytes<Row> part_at(const char* place) {
    return *static_cast<const SixteenBytes<Row>*>(static_cast<const void*>(place));
  }
  // 16 bytes of a row are permuted within every 128, so that lanes which read columns of 2 rows, or of 4 even or odd
  // ones, read different banks. Of two rows that have no bit in common the permutation of the sum is that of both, one
  // after the other.
  NRC_FAST_DEVICE static constexpr int turned(int row) { return (row >> 1 & 3) << 1 ^ (row & 1) << 2; }

  // Those of a warp, by the first of the warps that share them.
  NRC_FAST_DEVICE void copy(int step, int stage) const {
    const WarpPlace place = place_of_warp();
    if (place.tile == 0 && step < arguments_.steps) {
      char* const target = shared_memory() + stage + stage_place(place);
      if (arguments_.are_chunks) {
        copy_chunks(target, step, place);
      } else {
        copy_elements(target, step, place);
      }
    }
    commit_copies();
  }

  const ResidentArguments& arguments_;

 private:
  static constexpr int span_pieces = resident_columns * size / 16;
  static constexpr int copied_rows = warp_lanes / span_pieces;  // by a warp at a time
  static constexpr int copies = warp_rows / copied_rows;

  NRC_FAST_DEVICE void copy_chunks(char* stage, int step, const WarpPlace& place) const {
    const MatrixView& rows = arguments_.features;
    const unsigned lane = thread_index_again() % warp_lanes;
    const int row = static_cast<int>(lane / span_pieces);
    const int piece = static_cast<int>(lane % span_pieces);
    const std::int64_t stride = rows.row_stride * size;
    const char* source = static_cast<const char*>(rows.data) + (first_row(step, place) + row) * stride +
                         (place.column * size + piece * 16);
    char* target = stage + row * arguments_.layout.pitch;
    const int turned_piece = (piece ^ turned(row)) * 16;
    // Almost everywhere all is there, and the number of bytes need not be computed.
    if (step < arguments_.whole_steps && place.column + resident_columns <= static_cast<int>(rows.columns)) {
#pragma unroll
      for (int c = 0; c < copies; ++c) {
        copy_async(target + (turned_piece ^ turned(c * copied_rows % octet_rows) * 16), source);
        source += copied_rows * stride;
        target += copied_rows * arguments_.layout.pitch;
      }
      return;
    }
    const int left = rows_left(step, place);
    const int bytes = (static_cast<int>(rows.columns) - place.column) * size - piece * 16;
#pragma unroll 1
    for (int c = 0; c < copies; ++c) {
      const bool is_there = row + c * copied_rows < left && bytes > 0;
      copy_async(target + (turned_piece ^ turned(c * copied_rows % octet_rows) * 16),
                 is_there ? static_cast<const void*>(source) : rows.data, is_there ? (bytes < 16 ? bytes : 16) : 0);
      source += copied_rows * stride;
      target += copied_rows * arguments_.layout.pitch;
    }
  }

  // Of any strides: neighbours in memory by neighbouring lanes, where rows or columns are dense.
  NRC_FAST_DEVICE void copy_elements(char* stage, int step, const WarpPlace& place) const {
    const MatrixView& rows = arguments_.features;
    const bool are_columns_dense = rows.row_stride == 1 || rows.row_stride == -1;
    const int left = rows_left(step, place);
    const int columns_left = static_cast<int>(rows.columns) - place.column;
    const Row* const first_value = static_cast<const Row*>(rows.data) + first_row(step, place) * rows.row_stride +
                                   place.column * rows.column_stride;
    constexpr int elements = warp_rows * resident_columns / warp_lanes;  // of a lane
    constexpr int batch = size == 2 ? 4 : 1;
#pragma unroll 1
    for (int first = 0; first < elements; first += batch) {
      [[maybe_unused]] Row values[batch];
      char* targets[batch];
#pragma unroll
      for (int b = 0; b < batch; ++b) {
        const int index = (first + b) * warp_lanes + lane();
        const int row = are_columns_dense ? index % warp_rows : index / resident_columns;
        const int column = are_columns_dense ? index / warp_rows : index % resident_columns;
        const bool is_there = row < left && column < columns_left;
        const Row* const source = is_there ? first_value + row * rows.row_stride + column * rows.column_stride
                                           : static_cast<const Row*>(rows.data);
        targets[b] = stage + row * arguments_.layout.pitch + (column / at_once ^ turned(row % octet_rows)) * 16 +
                     column % at_once * size;
        if constexpr (size >= 4) {
          copy_element_async<size>(targets[b], source, is_there);
        } else {
          values[b] = *source;
          if (!is_there) values[b] = Row{};
        }
      }
      if constexpr (size == 2) {
#pragma unroll
        for (int b = 0; b < batch; ++b) *static_cast<Row*>(static_cast<void*>(targets[b])) = values[b];
      }
    }
  }
};

}  // namespace nrc_fast::cuda
