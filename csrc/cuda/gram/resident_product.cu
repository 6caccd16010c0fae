// Products of rows with a few vectors there and back, in one read of the rows.
//
// Rows come by asynchronous copies into a ring of three stages. A warp has 64 columns and eight vectors: it forms its
// part of the coefficients V x of the rows of a stage, the parts are added up in the order of the columns, and with the
// sums, whose place in registers is the one that the second product wants, it adds c x^T to its part of the image.
#include <type_traits>

#include "cuda/gram/resident_stage.h"

namespace nrc_fast::cuda {
namespace {

constexpr int resident_threads = resident_warps * warp_lanes;
static_assert(resident_columns == image_columns && resident_columns == 2 * coefficient_columns);

// What a lane has seen of a row of 16-bit or float32 numbers, in one instruction each.
template <class Row>
struct ShortRowFindings {
  float largest = 0.0f;  // magnitude, or NaN
  double energy = 0.0;

  // A value as a float64 number about the shift.
  NRC_FAST_DEVICE double take(float native, double shift) {
    largest = larger_magnitude(largest, native);
    const double value = static_cast<double>(native) - shift;
    energy += value * value;
    return value;
  }
};
template <class Row>
using ResidentFindings = std::conditional_t<sizeof(Row) == 8, RowFindings<Row>, ShortRowFindings<Row>>;

template <class Row>
class ResidentProduct : ResidentStage<Row> {
 public:
  NRC_FAST_DEVICE explicit ResidentProduct(const ResidentArguments& arguments) : Stage(arguments) {}

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
    int step = first;
    while (step < arguments_.steps) {
#pragma unroll 1
      for (int folded = 0; folded < fold_rows && step < arguments_.steps; folded += warp_rows) {
        find_parts(shared_memory() + stage, step);
        synchronize_block();  // all parts are there, and all are done with the stage before this one
        copy(step + (resident_stages - 1) * blocks, stage == 0 ? last_stage : stage - arguments_.layout.stage);
        settle(step);
        wait_for_copies<resident_stages - 2>();
        synchronize_block();  // coefficients are there, and the next stage
        add_image(shared_memory() + stage, step);
        stage = stage == last_stage ? 0 : stage + arguments_.layout.stage;
        step += blocks;
      }
      fold();
    }
  }

 private:
  using Stage = ResidentStage<Row>;
  using Stage::arguments_;
  using Stage::at_once;
  using Stage::copy;
  using Stage::first_row;
  using Stage::lane;
  using Stage::loads;
  using Stage::octets;
  using Stage::part_at;
  using Stage::place_of_warp;
  using Stage::rows_left;
  using Stage::size;
  using Stage::stage_place;
  using Stage::turned;
  using Stage::warp;
  using Stage::warp_rows;
  template <class Value>
  NRC_FAST_DEVICE static Value* shared_at(int place) {
    return Stage::template shared_at<Value>(place);
  }

  // Of the coefficients of a warp's rows and vectors, in pairs.
  NRC_FAST_DEVICE int sums_place(const WarpPlace& place) const {
    return (place.row / octet_rows * arguments_.plan.tiles + place.tile * octets) * warp_lanes;
  }
  NRC_FAST_DEVICE bool is_first_group() const { return arguments_.first_unit == 1; }
  // Of two columns, which this lane alone adds to.
  NRC_FAST_DEVICE int column_of_lane() const {
    return piece_column(at_once, image_lanes, lane() / group_rows, lane() % group_rows * 2);
  }
  NRC_FAST_DEVICE SixteenBytes<double>* column_sums(const WarpPlace& place) const {
    return shared_at<SixteenBytes<double>>(arguments_.layout.column_sums) + place.reader * warp_lanes + lane();
  }

  NRC_FAST_DEVICE void load_vectors() {
    const int tiles = arguments_.plan.tiles;
    const int tile = warp() % tiles;
    const int column_warp = warp() / tiles % arguments_.plan.column_warps;
    const int row_warp = warp() / tiles / arguments_.plan.column_warps;
    if (lane() == 0) {
      place_of_warp() = {tile, column_warp * resident_columns, row_warp * warp_rows, warp() / tiles};
    }
    synchronize_warp();
    constexpr int pairs = piece_values;  // of values of a lane
    const auto* const fragments = reinterpret_cast<const SixteenBytes<double>*>(arguments_.vectors) +
                                  (column_warp * pairs * tiles + tile) * warp_lanes + lane();
#pragma unroll
    for (int v = 0; v < 2 * pairs; v += 2) {
      const SixteenBytes<double> pair = fragments[v / 2 * tiles * warp_lanes];
      vectors_[v] = pair.values[0];
      vectors_[v + 1] = pair.values[1];
    }
    double* const shifts = shared_at<double>(arguments_.layout.shift);
    const int threads = arguments_.plan.warps() * warp_lanes;
    for (int i = thread_index(); i < arguments_.plan.column_warps * resident_columns; i += threads) {
      shifts[i] = arguments_.shift[i];
    }
    std::uint32_t* const flags = shared_at<std::uint32_t>(arguments_.layout.flags);
    for (int i = thread_index(); i < arguments_.layout.stage_rows; i += threads) flags[i] = 0;
  }

  NRC_FAST_DEVICE void clear() {
#pragma unroll
    for (int v = 0; v < piece_values; ++v) image_[v][0] = image_[v][1] = 0.0;
    const WarpPlace place = place_of_warp();
    if (place.tile == 0) *column_sums(place) = {{0.0, 0.0}};
  }

  // ---- coefficients ----

  NRC_FAST_DEVICE static std::uint32_t found_in(const ResidentFindings<Row>& findings) {
    if constexpr (size == 8) {
      return (findings.filled == 0 ? 0u : is_filled) | (findings.bad == 0 ? 0u : is_bad);
    } else {
      const std::uint32_t bits = magnitude_bits(findings.largest);  // of NaN the largest of all
      return (bits == 0 ? 0u : is_filled) | (bits < 0x7f800000u ? 0u : is_bad);
    }
  }

  // This warp's part of the coefficients: vectors on the left, so that a lane has those of two rows that follow one
  // another.
  NRC_FAST_DEVICE void find_parts(const char* stage, int step) {
    const unsigned lane = thread_index_again() % warp_lanes;
    const int quarter = static_cast<int>(lane % coefficient_lanes);
    const int octet_row = static_cast<int>(lane / coefficient_lanes);
    const WarpPlace place = place_of_warp();
    const char* row = stage + stage_place(place) + octet_row * arguments_.layout.pitch;
    const int turned_quarter = (quarter ^ turned(octet_row)) * 16;
    const double* const shifts = shared_at<double>(arguments_.layout.shift) + place.column + quarter * at_once;
    auto* parts = shared_at<SixteenBytes<double>>(arguments_.layout.parts) + warp() * octets * warp_lanes +
                  static_cast<int>(lane);
    auto* flags = shared_at<std::uint32_t>(arguments_.layout.flags) + place.row + octet_row;
    int left = rows_left(step, place);
#pragma unroll 1
    for (int o = 0; o < octets; ++o) {
      double sums[2] = {0.0, 0.0};
      ResidentFindings<Row> findings;
#pragma unroll
      for (int p = 0; p < 2 * loads; ++p) {
        const SixteenBytes<Row> part = part_at(row + (turned_quarter ^ p % 2 * 64) + p / 2 * 128);
#pragma unroll
        for (int v = 0; v < at_once; v += 2) {
          const auto pair =
              *reinterpret_cast<const SixteenBytes<double>*>(shifts + p * coefficient_lanes * at_once + v);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            multiply_add(sums, vectors_[p * at_once + v + i],
                         findings.take(as<Native<Row>>(part.values[v + i]), pair.values[i]));
          }
        }
        keep_order();  // or too much is loaded ahead for the registers
      }
      const bool has_first = quarter * 2 < left;
      const bool has_second = quarter * 2 + 1 < left;
      *parts = {{has_first ? sums[0] : 0.0, has_second ? sums[1] : 0.0}};
      if (octet_row < left) energy_ += findings.energy;
      std::uint32_t found = found_in(findings);
      found |= shuffle_xor(found, 1);
      found |= shuffle_xor(found, 2);
      if (place.tile == 0 && quarter == 0 && octet_row < left) set_bits(flags, found);
      row += octet_rows * arguments_.layout.pitch;
      parts += warp_lanes;
      flags += octet_rows;
      left -= octet_rows;
    }
  }

  // Adds up the parts of the columns, 32 sums a warp, and counts rows.
  NRC_FAST_DEVICE void settle(int step) const {
    const ResidentPlan& plan = arguments_.plan;
    const WarpPlace place = place_of_warp();
    const int column_warp = place.column / resident_columns;
    constexpr int sums = octets * octet_sums;
    const double* const parts =
        shared_at<double>(arguments_.layout.parts) + (warp() - column_warp * plan.tiles) * sums + lane();
    double* const coefficients = shared_at<double>(arguments_.layout.coefficients) + 2 * sums_place(place) + lane();
    for (int i = column_warp * warp_lanes; i < sums; i += plan.column_warps * warp_lanes) {
      const double* part = parts + i;
      double sum = *part;
#pragma unroll 4
      for (int c = 1; c < plan.column_warps; ++c) {
        part += plan.tiles * sums;
        sum += *part;
      }
      coefficients[i] = sum;
    }
    if (!is_first_group() || column_warp + 1 < plan.column_warps || place.tile != 0) return;
    const int row = lane();
    if (row >= rows_left(step, place)) return;
    std::uint32_t* const flags = shared_at<std::uint32_t>(arguments_.layout.flags) + place.row + row;
    const std::uint32_t found = *flags;
    *flags = 0;
    if ((found & is_bad) != 0) {
      count_more(&arguments_.counts->nonfinite, 1);
      keep_smallest(&arguments_.counts->first_nonfinite, first_row(step, place) + row);
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
    const WarpPlace place = place_of_warp();
    const char* row = stage + stage_place(place) + pair * arguments_.layout.pitch;
    const int turned_lane = (column_lane ^ turned(pair)) * 16;
    const double* const shifts = shared_at<double>(arguments_.layout.shift) + place.column + column_lane * at_once;
    const auto* coefficients =
        shared_at<SixteenBytes<double>>(arguments_.layout.coefficients) + sums_place(place) + static_cast<int>(lane);
    int left = rows_left(step, place) - pair;
    double column_sums[piece_values];
#pragma unroll
    for (int v = 0; v < piece_values; ++v) column_sums[v] = 0.0;
#pragma unroll 1
    for (int o = 0; o < octets; ++o) {
      const SixteenBytes<double> lefts = *coefficients;
      const double is_there[2] = {left > 0 ? 1.0 : 0.0, left > 1 ? 1.0 : 0.0};
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
            const double value = static_cast<double>(as<Native<Row>>(rights[i].values[v])) - its_shift;
            column_sums[l * at_once + v] += is_there[i] * value;
            multiply_add(image_[l * at_once + v], lefts.values[i], value);
          }
        }
        keep_order();
      }
      row += octet_rows * arguments_.layout.pitch;
      coefficients += warp_lanes;
      left -= octet_rows;
    }
    if (place.tile == 0 && is_first_group()) add_column_sums(column_sums, this->column_sums(place));
  }

  // Four lanes have seen other rows of the same eight columns: each of them adds up what they have of two.
  NRC_FAST_DEVICE static void add_column_sums(const double (&seen)[piece_values], SixteenBytes<double>* sums) {
    const unsigned lane = thread_index_again();
    const bool has_last_four = (lane & 2) != 0;
    const bool has_last_two = (lane & 1) != 0;
    double four[4];
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      four[v] = has_last_four ? seen[v + 4] : seen[v];
      four[v] += shuffle_xor(has_last_four ? seen[v] : seen[v + 4], 2);
    }
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      const double own = has_last_two ? four[v + 2] : four[v];
      sums->values[v] += own + shuffle_xor(has_last_two ? four[v] : four[v + 2], 1);
    }
  }

  // Sums go to the block's own memory; warps that have the same columns of other rows take turns.
  NRC_FAST_DEVICE void fold() {
    const WarpPlace place = place_of_warp();
    double* const energies = shared_at<double>(arguments_.layout.energies);
#pragma unroll
    for (int mask = warp_lanes / 2; mask > 0; mask /= 2) energy_ += shuffle_xor(energy_, mask);
    if (place.tile == 0 && lane() == 0) energies[place.reader] = energy_;
    energy_ = 0.0;
#pragma unroll 1
    for (int turn = 0; turn < arguments_.plan.row_warps; ++turn) {
      if (turn * warp_rows == place.row) add_to_image(place);
      synchronize_block();
    }
    if (!is_first_group() || thread_index() != 0) return;
    for (int r = 0; r < arguments_.plan.row_warps * arguments_.plan.column_warps; ++r) {
      arguments_.energies[block_index()].add(energies[r]);
    }
  }

  NRC_FAST_DEVICE void add_to_image(const WarpPlace& place) {
    CompensatedSum* const image =
        arguments_.image + block_index() * arguments_.units * arguments_.padded_columns + place.column;
    const TileElement element = double_accumulator_element(lane(), 0);
    const std::int64_t vector = place.tile * tile_vectors + element.row;
    CompensatedSum* const of_vector = image + (arguments_.first_unit + vector) * arguments_.padded_columns;
#pragma unroll
    for (int v = 0; v < piece_values; ++v) {
      if (vector < arguments_.group_vectors) {
        of_vector[piece_column(at_once, image_lanes, element.column, v)].add(image_[v][0]);
        of_vector[piece_column(at_once, image_lanes, element.column + 1, v)].add(image_[v][1]);
      }
      keep_order();  // or too much is loaded ahead for the registers
    }
    if (place.tile == 0 && is_first_group()) {
      const SixteenBytes<double> sums = *column_sums(place);
      image[column_of_lane()].add(sums.values[0]);
      image[column_of_lane() + 1].add(sums.values[1]);
    }
    clear();
  }

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

}  // namespace

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
