// Products of rows with a few vectors there and back, in one read of the rows.
//
// Rows come by asynchronous copies into a ring of three stages. A warp has 64 columns and eight vectors: it forms its
// part of the coefficients V x of the rows of a stage, the parts are added up in the order of the columns, and with the
// sums, whose place in registers is the one that the second product wants, it adds c x^T to its part of the image.
#include "cuda/gram/double_ring.h"
#include "cuda/gram/product_kernels.h"
#include "cuda/gram/resident_product.h"
#include "cuda/machine/workspace.h"

namespace nrc_fast::cuda {
namespace {

constexpr int resident_threads = resident_warps * warp_lanes;
constexpr int resident_stages = 3;
constexpr int octet_rows = 8;
constexpr int octet_sums = octet_rows * tile_vectors;
static_assert(resident_columns == image_columns && resident_columns == 2 * coefficient_columns);

// Eights of rows that a warp has of a stage: of 16-bit rows as many bytes as of float32 rows.
NRC_FAST_BOTH int octets_of(int size) { return size == 2 ? 2 : 1; }

// 16 bytes of a row are permuted within every 128, so that lanes which read columns of 2 rows, or of 4 even or odd
// ones, read different banks. Of two rows that have no bit in common the permutation of the sum is that of both, one
// after the other.
NRC_FAST_BOTH int turned(int row) { return (row >> 1 & 3) << 1 ^ (row & 1) << 2; }

template <class Row>
class ResidentProduct {
 public:
  NRC_FAST_DEVICE explicit ResidentProduct(const ResidentArguments& arguments) : arguments_(arguments) {}

  NRC_FAST_DEVICE void run() {
    load_vectors();
    clear();
    energy_ = 0.0;
    const int blocks = static_cast<int>(grid_size());
    const int first = static_cast<int>(block_index());
#pragma unroll 1
    for (int s = 0; s < resident_stages - 1; ++s) copy(first + s * blocks, s * arguments_.layout.stage);
    wait_for_copies<resident_stages - 2>();
    synchronize_block();
    const int last_stage = (resident_stages - 1) * arguments_.layout.stage;
    int stage = 0;
    int folded = 0;
#pragma unroll 1
    for (int step = first; step < arguments_.steps; step += blocks) {
      find_parts(shared_memory() + stage, step);
      synchronize_block();  // all parts are there, and all are done with the stage before this one
      copy(step + (resident_stages - 1) * blocks, stage == 0 ? last_stage : stage - arguments_.layout.stage);
      settle(step);
      wait_for_copies<resident_stages - 2>();
      synchronize_block();  // coefficients are there, and the next stage
      add_image(shared_memory() + stage, step);
      stage = stage == last_stage ? 0 : stage + arguments_.layout.stage;
      folded += warp_rows;
      if (folded < fold_rows && step + blocks < arguments_.steps) continue;
      folded = 0;
      fold();
    }
  }

 private:
  static constexpr int size = sizeof(Row);
  static constexpr int octets = octets_of(size);
  static constexpr int warp_rows = octets * octet_rows;
  static constexpr int span_bytes = resident_columns * size;
  static constexpr int at_once = RowPiece<Row>::at_once;
  static constexpr int loads = RowPiece<Row>::loads;
  static constexpr int span_pieces = span_bytes / 16;
  static constexpr int copied_rows = warp_lanes / span_pieces;  // by a warp at a time
  static constexpr int copies = warp_rows / copied_rows;

  // What is computed from it takes no registers from one use to the next.
  NRC_FAST_DEVICE static int lane() { return static_cast<int>(thread_index_again() % warp_lanes); }
  NRC_FAST_DEVICE static int warp() { return static_cast<int>(thread_index_again() / warp_lanes); }
  // Where this warp is among those with other vectors, columns or rows. Worked out anew where it is needed: registers
  // are for vectors and image.
  NRC_FAST_DEVICE int reader() const { return warp() * arguments_.layout.tile_inverse >> 16; }
  NRC_FAST_DEVICE int tile() const { return warp() - reader() * arguments_.plan.tiles; }
  NRC_FAST_DEVICE int row_warp() const { return reader() * arguments_.layout.column_inverse >> 16; }
  NRC_FAST_DEVICE int column_warp() const { return reader() - row_warp() * arguments_.plan.column_warps; }
  NRC_FAST_DEVICE std::int64_t first_row(int step) const {
    return static_cast<std::int64_t>(step) * arguments_.layout.stage_rows + row_warp() * warp_rows;
  }
  // Of this warp in a step, none or fewer in the last.
  NRC_FAST_DEVICE int rows_left(int step) const {
    const std::int64_t left = arguments_.features.rows - first_row(step);
    return static_cast<int>(left < warp_rows ? left : warp_rows);
  }

  template <class Value>
  NRC_FAST_DEVICE static Value* shared_at(int place) {
    return static_cast<Value*>(static_cast<void*>(shared_memory() + place));
  }
  NRC_FAST_DEVICE double* shift() const {
    return shared_at<double>(arguments_.layout.shift) + column_warp() * resident_columns;
  }
  NRC_FAST_DEVICE bool is_first_group() const { return arguments_.first_unit == 1; }
  // Of two columns, which this lane alone adds to.
  NRC_FAST_DEVICE int column_of_lane() const {
    return piece_column(at_once, image_lanes, lane() / group_rows, lane() % group_rows * 2);
  }
  NRC_FAST_DEVICE SixteenBytes<double>* column_sums() const {
    return shared_at<SixteenBytes<double>>(arguments_.layout.column_sums) + reader() * warp_lanes + lane();
  }
  // In a stage.
  NRC_FAST_DEVICE int place_of_warp() const {
    return row_warp() * warp_rows * arguments_.layout.pitch + column_warp() * span_bytes;
  }
  NRC_FAST_DEVICE static SixteenBytes<Row> part_at(const char* place) {
    return *static_cast<const SixteenBytes<Row>*>(static_cast<const void*>(place));
  }

  NRC_FAST_DEVICE void load_vectors() {
    const int tiles = arguments_.plan.tiles;
    constexpr int pairs = piece_values;  // of values of a lane
    const auto* const fragments = reinterpret_cast<const SixteenBytes<double>*>(arguments_.vectors) +
                                  (column_warp() * pairs * tiles + tile()) * warp_lanes + lane();
#pragma unroll
    for (int v = 0; v < 2 * pairs; v += 2) {
      const SixteenBytes<double> pair = fragments[v / 2 * tiles * warp_lanes];
      vectors_[v] = pair.values[0];
      vectors_[v + 1] = pair.values[1];
    }
    double* const shifts = shared_at<double>(arguments_.layout.shift);
    for (int i = thread_index(); i < arguments_.plan.column_warps * resident_columns;
         i += arguments_.plan.warps() * warp_lanes) {
      shifts[i] = arguments_.shift[i];
    }
  }

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int v = 0; v < piece_values; ++v) image_[v][0] = image_[v][1] = 0.0;
    if (tile() == 0) *column_sums() = {{0.0, 0.0}};
  }

  // ---- rows into a stage: those of a warp, by the first of the warps that share them ----

  NRC_FAST_DEVICE void copy(int step, int stage) const {
    if (tile() == 0 && step < arguments_.steps) {
      char* const target = shared_memory() + stage + place_of_warp();
      if (arguments_.are_chunks) {
        copy_chunks(target, first_row(step), rows_left(step));
      } else {
        copy_elements(target, first_row(step), rows_left(step));
      }
    }
    commit_copies();
  }

  NRC_FAST_DEVICE void copy_chunks(char* target, std::int64_t first_row, int rows_left) const {
    const MatrixView& rows = arguments_.features;
    const unsigned lane = thread_index_again() % warp_lanes;
    const int row = static_cast<int>(lane / span_pieces);
    const int piece = static_cast<int>(lane % span_pieces);
    const std::int64_t stride = rows.row_stride * size;
    const char* const source =
        static_cast<const char*>(rows.data) + (first_row + row) * stride + (column_warp() * span_pieces + piece) * 16;
    char* const lane_target = target + row * arguments_.layout.pitch;
    const int turned_piece = (piece ^ turned(row)) * 16;
    const int bytes = static_cast<int>(rows.columns) * size - (column_warp() * span_pieces + piece) * 16;
    // Almost everywhere all is there, and the number of bytes need not be computed.
    const bool is_whole = rows_left == warp_rows && (column_warp() + 1) * resident_columns <= rows.columns;
    if (is_whole) {
#pragma unroll 2  // or registers do not suffice for the addresses
      for (int c = 0; c < copies; ++c) {
        copy_async(lane_target + c * copied_rows * arguments_.layout.pitch +
                       (turned_piece ^ turned(c * copied_rows % octet_rows) * 16),
                   source + c * copied_rows * stride);
      }
      return;
    }
#pragma unroll 1
    for (int c = 0; c < copies; ++c) {
      const bool is_there = row + c * copied_rows < rows_left && bytes > 0;
      copy_async(lane_target + c * copied_rows * arguments_.layout.pitch +
                     (turned_piece ^ turned(c * copied_rows % octet_rows) * 16),
                 is_there ? static_cast<const void*>(source + c * copied_rows * stride) : rows.data,
                 is_there ? (bytes < 16 ? bytes : 16) : 0);
    }
  }

  // Of any strides: neighbours in memory by neighbouring lanes, where rows or columns are dense.
  NRC_FAST_DEVICE void copy_elements(char* target, std::int64_t first_row, int rows_left) const {
    const MatrixView& rows = arguments_.features;
    const bool are_columns_dense = rows.row_stride == 1 || rows.row_stride == -1;
    const int columns_left = static_cast<int>(rows.columns) - column_warp() * resident_columns;
    constexpr int elements = warp_rows * resident_columns / warp_lanes;  // of a lane
    constexpr int batch = size == 2 ? 4 : 1;
#pragma unroll 1
    for (int first = 0; first < elements; first += batch) {
      [[maybe_unused]] Row values[batch];
      char* places[batch];
#pragma unroll
      for (int b = 0; b < batch; ++b) {
        const int index = (first + b) * warp_lanes + lane();
        const int row = are_columns_dense ? index % warp_rows : index / resident_columns;
        const int column = are_columns_dense ? index / warp_rows : index % resident_columns;
        const bool is_there = row < rows_left && column < columns_left;
        const Row* const source = static_cast<const Row*>(rows.data) +
                                  (is_there ? (first_row + row) * rows.row_stride +
                                                  (column_warp() * resident_columns + column) * rows.column_stride
                                            : 0);
        places[b] = target + row * arguments_.layout.pitch + (column / at_once ^ turned(row % octet_rows)) * 16 +
                    column % at_once * size;
        if constexpr (size >= 4) {
          copy_element_async<size>(places[b], source, is_there);
        } else {
          values[b] = *source;
          if (!is_there) values[b] = Row{};
        }
      }
      if constexpr (size == 2) {
#pragma unroll
        for (int b = 0; b < batch; ++b) *static_cast<Row*>(static_cast<void*>(places[b])) = values[b];
      }
    }
  }

  // ---- coefficients ----

  // This warp's part of the coefficients: vectors on the left, so that a lane has those of two rows that follow one
  // another.
  NRC_FAST_DEVICE void find_parts(const char* stage, int step) {
    const unsigned lane = thread_index_again() % warp_lanes;
    const int quarter = static_cast<int>(lane % coefficient_lanes);
    const int octet_row = static_cast<int>(lane / coefficient_lanes);
    const char* row = stage + place_of_warp() + octet_row * arguments_.layout.pitch;
    const int turned_quarter = (quarter ^ turned(octet_row)) * 16;
    const double* const shifts = shift() + quarter * at_once;
    auto* parts = shared_at<SixteenBytes<double>>(arguments_.layout.parts) + warp() * octets * warp_lanes +
                  static_cast<int>(lane);
    auto* flags = shared_at<std::uint32_t>(arguments_.layout.flags) + reader() * warp_rows + octet_row;
    int left = rows_left(step);
#pragma unroll 1
    for (int o = 0; o < octets; ++o) {
      double sums[2][2] = {{0.0, 0.0}, {0.0, 0.0}};
      RowFindings<Row> findings;
#pragma unroll
      for (int p = 0; p < 2 * loads; ++p) {
        const SixteenBytes<Row> part = part_at(row + (turned_quarter ^ p % 2 * 64) + p / 2 * 128);
#pragma unroll
        for (int v = 0; v < at_once; v += 2) {
          const auto pair =
              *reinterpret_cast<const SixteenBytes<double>*>(shifts + p * coefficient_lanes * at_once + v);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            multiply_add(sums[i], vectors_[p * at_once + v + i], findings.take(part.values[v + i], pair.values[i]));
          }
        }
        keep_order();  // or too much is loaded ahead for the registers
      }
      const bool has_first = quarter * 2 < left;
      const bool has_second = quarter * 2 + 1 < left;
      *parts = {{has_first ? sums[0][0] + sums[1][0] : 0.0, has_second ? sums[0][1] + sums[1][1] : 0.0}};
      if (octet_row < left) energy_ += findings.energy;
      std::uint32_t found = (findings.filled != 0 ? is_filled : 0u) | (findings.bad == 0 ? 0u : is_bad);
      found |= shuffle_xor(found, 1);
      found |= shuffle_xor(found, 2);
      if (tile() == 0 && quarter == 0) *flags = found;
      row += octet_rows * arguments_.layout.pitch;
      parts += warp_lanes;
      flags += octet_rows;
      left -= octet_rows;
    }
  }

  // Adds up the parts of the columns, and counts rows.
  NRC_FAST_DEVICE void settle(int step) const {
    const ResidentPlan& plan = arguments_.plan;
    constexpr int sums = octets * octet_sums;
    const double* const parts = shared_at<double>(arguments_.layout.parts);
    double* const coefficients = shared_at<double>(arguments_.layout.coefficients);
    for (int i = thread_index(); i < plan.row_warps * plan.tiles * sums; i += plan.warps() * warp_lanes) {
      const int row_warp = i / sums / plan.tiles;
      const double* const part = parts + i + row_warp * (plan.column_warps - 1) * plan.tiles * sums;
      double sum = part[0];
      for (int c = 1; c < plan.column_warps; ++c) sum += part[c * plan.tiles * sums];
      coefficients[i] = sum;
    }
    const int row = thread_index();
    const std::int64_t index = static_cast<std::int64_t>(step) * arguments_.layout.stage_rows + row;
    if (!is_first_group() || row >= arguments_.layout.stage_rows || index >= arguments_.features.rows) return;
    const std::uint32_t* const flags = shared_at<std::uint32_t>(arguments_.layout.flags) +
                                       row / warp_rows * plan.column_warps * warp_rows + row % warp_rows;
    std::uint32_t found = 0;
    for (int c = 0; c < plan.column_warps; ++c) found |= flags[c * warp_rows];
    if ((found & is_bad) != 0) {
      count_more(&arguments_.counts->nonfinite, 1);
      keep_smallest(&arguments_.counts->first_nonfinite, index);
    }
    if (found == 0) count_more(&arguments_.counts->zero, 1);
  }

  // ---- image ----

  // Of two rows that follow one another the four lanes of a column have the even ones first, then the odd ones, as
  // they have the coefficients.
  NRC_FAST_DEVICE void add_image(const char* stage, int step) {
    const unsigned lane = thread_index_again() % warp_lanes;
    const int pair = static_cast<int>(lane % group_rows) * 2;
    const int column_lane = static_cast<int>(lane / group_rows);
    const char* row = stage + place_of_warp() + pair * arguments_.layout.pitch;
    const int turned_lane = (column_lane ^ turned(pair)) * 16;
    const double* const shifts = shift() + column_lane * at_once;
    const auto* coefficients = shared_at<SixteenBytes<double>>(arguments_.layout.coefficients) +
                               (row_warp() * arguments_.plan.tiles + tile()) * octets * warp_lanes +
                               static_cast<int>(lane);
    int left = rows_left(step) - pair;
    double column_sums[piece_values];
#pragma unroll
    for (int v = 0; v < piece_values; ++v) column_sums[v] = 0.0;
#pragma unroll 1
    for (int o = 0; o < octets; ++o) {
      const SixteenBytes<double> lefts = *coefficients;
#pragma unroll
      for (int l = 0; l < loads; ++l) {
        const SixteenBytes<Row> rights[2] = {
            part_at(row + turned_lane + l * 128),
            part_at(row + arguments_.layout.pitch + (turned_lane ^ turned(1) * 16) + l * 128)};
#pragma unroll
        for (int v = 0; v < at_once; ++v) {
          const double its_shift = shifts[l * image_lanes * at_once + v];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const double value = as_double(as<Native<Row>>(rights[i].values[v])) - its_shift;
            column_sums[l * at_once + v] += i < left ? value : 0.0;
            multiply_add(image_[l * at_once + v], lefts.values[i], value);
          }
        }
        keep_order();
      }
      row += octet_rows * arguments_.layout.pitch;
      coefficients += warp_lanes;
      left -= octet_rows;
    }
    if (tile() == 0 && is_first_group()) add_column_sums(column_sums);
  }

  // Four lanes have seen other rows of the same eight columns: each of them adds up what they have of two.
  NRC_FAST_DEVICE void add_column_sums(const double (&seen)[piece_values]) const {
    const unsigned lane = thread_index_again();
    const bool has_last_four = (lane & 2) != 0;
    const bool has_last_two = (lane & 1) != 0;
    double four[4];
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      four[v] = has_last_four ? seen[v + 4] : seen[v];
      four[v] += shuffle_xor(has_last_four ? seen[v] : seen[v + 4], 2);
    }
    SixteenBytes<double>* const sums = column_sums();
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      const double own = has_last_two ? four[v + 2] : four[v];
      sums->values[v] += own + shuffle_xor(has_last_two ? four[v] : four[v + 2], 1);
    }
  }

  // Sums go to the block's own memory; warps that have the same columns of other rows take turns.
  NRC_FAST_DEVICE void fold() {
    double* const energies = shared_at<double>(arguments_.layout.energies);
#pragma unroll
    for (int mask = warp_lanes / 2; mask > 0; mask /= 2) energy_ += shuffle_xor(energy_, mask);
    if (tile() == 0 && lane() == 0) energies[reader()] = energy_;
    energy_ = 0.0;
#pragma unroll 1
    for (int turn = 0; turn < arguments_.plan.row_warps; ++turn) {
      if (turn == row_warp()) add_to_image();
      synchronize_block();
    }
    if (!is_first_group() || thread_index() != 0) return;
    for (int r = 0; r < arguments_.plan.row_warps * arguments_.plan.column_warps; ++r) {
      arguments_.energies[block_index()].add(energies[r]);
    }
  }

  NRC_FAST_DEVICE void add_to_image() {
    CompensatedSum* const image = arguments_.image + block_index() * arguments_.units * arguments_.padded_columns +
                                  column_warp() * resident_columns;
    const TileElement element = double_accumulator_element(lane(), 0);
    const std::int64_t vector = tile() * tile_vectors + element.row;
    CompensatedSum* const of_vector = image + (arguments_.first_unit + vector) * arguments_.padded_columns;
#pragma unroll
    for (int v = 0; v < piece_values; ++v) {
      if (vector < arguments_.group_vectors) {
        of_vector[piece_column(at_once, image_lanes, element.column, v)].add(image_[v][0]);
        of_vector[piece_column(at_once, image_lanes, element.column + 1, v)].add(image_[v][1]);
      }
      keep_order();  // or too much is loaded ahead for the registers
    }
    if (tile() == 0 && is_first_group()) {
      const SixteenBytes<double> sums = *column_sums();
      image[column_of_lane()].add(sums.values[0]);
      image[column_of_lane() + 1].add(sums.values[1]);
    }
    clear();
  }

  const ResidentArguments& arguments_;
  double vectors_[2 * piece_values];
  double image_[piece_values][2];
  double energy_;
};

template <class Row>
NRC_FAST_GLOBAL(resident_threads, 1)
resident_product_kernel(ResidentArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();  // the launches never come here
  } else {
    ResidentProduct<Row> product(arguments);
    product.run();
  }
}

bool has_room(const MatrixView& rows, const ResidentPlan& plan, const DeviceLimits& device) {
  return plan.warps() <= resident_warps && resident_layout(plan, rows.dtype).bytes <= device.shared_memory_per_block;
}

}  // namespace

ResidentLayout resident_layout(const ResidentPlan& plan, DType dtype) {
  const auto size = static_cast<int>(size_of(dtype));
  const int octets = octets_of(size);
  const int readers = plan.row_warps * plan.column_warps;
  ResidentLayout layout{};
  layout.tile_inverse = static_cast<int>(ceiling(1 << 16, plan.tiles));
  layout.column_inverse = static_cast<int>(ceiling(1 << 16, plan.column_warps));
  layout.pitch = plan.column_warps * resident_columns * size;
  layout.stage_rows = plan.row_warps * octets * octet_rows;
  layout.stage = layout.stage_rows * layout.pitch;
  layout.shift = resident_stages * layout.stage;
  layout.parts = layout.shift + plan.column_warps * resident_columns * 8;
  layout.coefficients = layout.parts + plan.warps() * octets * octet_sums * 8;
  layout.column_sums = layout.coefficients + plan.row_warps * plan.tiles * octets * octet_sums * 8;
  layout.energies = layout.column_sums + readers * resident_columns * 8;
  layout.flags = layout.energies + readers * 8;
  layout.bytes = layout.flags + readers * octets * octet_rows * 4;
  return layout;
}

ResidentPlan plan_resident_product(const MatrixView& rows, std::int64_t tiles, const DeviceLimits& device) {
  ResidentPlan plan{};
  if (device.capability.major < 8 || rows.columns > resident_warps * resident_columns || tiles > resident_warps) {
    return plan;
  }
  plan.tiles = static_cast<int>(tiles);
  plan.column_warps = static_cast<int>(ceiling(rows.columns, resident_columns));
  ResidentPlan more = plan;
  while (++more.row_warps, has_room(rows, more, device)) plan = more;
  return plan;
}

int most_resident_tiles(const MatrixView& rows, const DeviceLimits& device) {
  int tiles = resident_warps;
  while (tiles > 0 && plan_resident_product(rows, tiles, device).row_warps == 0) --tiles;
  return tiles;
}

std::int64_t resident_product_blocks(const MatrixView& rows, const ResidentPlan& plan, const DeviceLimits& device) {
  std::int64_t at_once = 0;
  with_row_type(rows.dtype, [&](auto row) {
    at_once =
        device.multiprocessors * resident_blocks(resident_product_kernel<decltype(row)>, "resident_product",
                                                 plan.warps() * warp_lanes, resident_layout(plan, rows.dtype).bytes);
  });
  // Of fewer rows than these a block's sums are more to write and to read than the rows.
  const std::int64_t stage_rows = resident_layout(plan, rows.dtype).stage_rows;
  const std::int64_t filled = ceiling(rows.rows, stage_rows > fold_rows / 4 ? stage_rows : fold_rows / 4);
  return filled < at_once ? filled : at_once;
}

void add_resident_product(const ResidentArguments& arguments, std::int64_t blocks, Stream stream) {
  with_row_type(arguments.features.dtype, [&](auto row) {
    launch(resident_product_kernel<decltype(row)>, "resident_product", {static_cast<unsigned>(blocks)},
           arguments.plan.warps() * warp_lanes, arguments.layout.bytes, stream, arguments);
  });
}

}  // namespace nrc_fast::cuda
