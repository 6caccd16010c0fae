// V sum (h - s)(h - s)^T of rows on a device, without the Gram matrix: the work that is shared out to the kernel of
// resident_product.h, or where a block has no room for it to those of product_kernels.h, which read the rows twice, and
// their sums added up in a fixed order.
#include <stdexcept>

#include "cuda/gram/double_ring.h"
#include "cuda/gram/product.h"
#include "cuda/gram/product_kernels.h"
#include "cuda/gram/product_sums.h"
#include "cuda/gram/resident_product.h"
#include "cuda/machine/workspace.h"

namespace nrc_fast::cuda {
namespace {

constexpr std::int64_t coefficient_bytes_at_once = std::int64_t{64} << 20;
// Blocks that keep a multiprocessor busy, one after the other.
constexpr std::int64_t blocks_each = 4;

std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// Vectors that are multiplied at once; where rows are read twice, tiles of 8 are 1, 2 or 4.
struct VectorGroup {
  std::int64_t first;
  std::int64_t count;

  int tiles() const { return count <= tile_vectors ? 1 : (count <= 2 * tile_vectors ? 2 : most_tiles); }
  std::int64_t resident_tiles() const { return ceiling(larger(count, 1), tile_vectors); }
};

// Whose coefficients are to be in memory has rows that are read twice.
ProductChoice choice_for(const ProductRequest& request, const DeviceLimits& device) {
  const ProductChoice choice = choose_product(request.features, request.count, device);
  if (!choice.is_resident || request.rows_at_once == 0) return choice;
  return {false, most_tiles * tile_vectors};
}

struct Pieces {
  std::int64_t rows;  // whose coefficients are in memory at once
  std::int64_t padded_rows;
  std::int64_t padded_columns;
  std::int64_t column_parts;
  std::int64_t row_parts;
  std::int64_t energy_parts;
  double* vectors;  // of all groups
  double* shift;
  double* coefficients;
  double* energies;
  unsigned char* flags;
  CompensatedSum* image;  // row parts x units x padded columns
  CompensatedSum* energy;
  std::int64_t sum_bytes;  // of both
  std::int64_t bytes;
};

// No vectors are a tile of zeros; the last group of tiles may be one of zeros in part.
std::int64_t fragment_count(const ProductRequest& request, std::int64_t padded_columns) {
  return (round_up(larger(request.count, 1), tile_vectors) + most_tiles * tile_vectors) * padded_columns;
}

// Of the launches for all groups of vectors.
std::int64_t most_resident_blocks(const ProductRequest& request, std::int64_t at_once, const DeviceLimits& device) {
  std::int64_t most = 0;
  for (std::int64_t first = 0; first == 0 || first < request.count; first += at_once) {
    const VectorGroup group{first, smaller(request.count - first, at_once)};
    const ResidentPlan plan = plan_resident_product(request.features, group.resident_tiles(), device);
    most = larger(most, resident_product_blocks(request.features, plan, device));
  }
  return most;
}

void take_sums(Workspace& workspace, const ProductRequest& request, Pieces& pieces) {
  const std::int64_t before = workspace.used();
  pieces.image = workspace.take<CompensatedSum>(pieces.row_parts * (1 + request.count) * pieces.padded_columns);
  pieces.energy = workspace.take<CompensatedSum>(pieces.energy_parts);
  pieces.sum_bytes = workspace.used() - before;
  pieces.bytes = workspace.used();
}

Pieces pieces_of(const ProductRequest& request, const DeviceLimits& device, char* memory) {
  const MatrixView& features = request.features;
  const ProductChoice choice = choice_for(request, device);
  Pieces pieces{};
  Workspace workspace(memory);
  pieces.padded_columns = round_up(features.columns, image_columns);
  pieces.vectors = workspace.take<double>(fragment_count(request, pieces.padded_columns));
  pieces.shift = workspace.take<double>(pieces.padded_columns);
  if (choice.is_resident) {
    pieces.rows = features.rows;
    pieces.row_parts = most_resident_blocks(request, choice.vectors_at_once, device);
    pieces.energy_parts = pieces.row_parts;
    take_sums(workspace, request, pieces);
    return pieces;
  }
  const VectorGroup first_vectors{0, smaller(request.count, choice.vectors_at_once)};
  const std::int64_t widest = first_vectors.tiles() * tile_vectors;
  const std::int64_t filling = blocks_each * device.multiprocessors;
  const std::int64_t fitting = coefficient_bytes_at_once / 8 / widest;
  pieces.rows = smaller(features.rows, request.rows_at_once > 0 ? request.rows_at_once : fitting);
  pieces.padded_rows = round_up(pieces.rows, padded_block_rows);
  // Few rows are shared out by their columns.
  const std::int64_t steps = ceiling(features.columns, coefficient_columns);
  pieces.column_parts = larger(smaller(filling * padded_block_rows / pieces.padded_rows, ceiling(steps, 4)), 1);
  const std::int64_t column_blocks = ceiling(features.columns, product_warps * image_columns);
  pieces.row_parts = larger(smaller(ceiling(filling, column_blocks), ceiling(pieces.rows, fold_rows / 4)), 1);
  pieces.energy_parts = energy_parts;
  pieces.coefficients = workspace.take<double>(pieces.column_parts * pieces.padded_rows * widest);
  pieces.energies = workspace.take<double>(pieces.column_parts * pieces.padded_rows / 16);
  pieces.flags = workspace.take<unsigned char>(pieces.column_parts * pieces.padded_rows);
  take_sums(workspace, request, pieces);
  return pieces;
}

// One pass, whose launches follow one another on its stream.
class GramProductPass {
 public:
  GramProductPass(const ProductRequest& request, const GramProduct& sums, const DeviceLimits& device, Stream stream)
      : request_(request),
        sums_(sums),
        device_(device),
        choice_(choice_for(request, device)),
        stream_(stream),
        pieces_(pieces_of(request, device, request.workspace)) {}

  void run() {
    fill_zero(pieces_.image, pieces_.sum_bytes, stream_);
    prepare();
    if (choice_.is_resident) {
      for_groups([&](const VectorGroup& group) { add_resident(group); });
    } else {
      for (std::int64_t first = 0; first < request_.features.rows; first += pieces_.rows) add_rows(first);
    }
    add_image(totals(0), stream_);
  }

 private:
  void prepare() {
    const MatrixView& features = request_.features;
    prepare_shift({sums_.shift, features.columns, pieces_.shift, pieces_.padded_columns}, stream_);
    const int at_once = static_cast<int>(16 / size_of(features.dtype));
    for_groups([&](const VectorGroup& group) {
      const std::int64_t tiles = choice_.is_resident ? group.resident_tiles() : group.tiles();
      prepare_vectors({request_.vectors + group.first * features.columns, features.columns, group.count, tiles, at_once,
                       fragments_of(group), pieces_.padded_columns * tiles * tile_vectors},
                      stream_);
    });
  }

  // Once where there are no vectors, for the sums and the energy.
  template <class Use>
  void for_groups(const Use& use) const {
    const std::int64_t at_once = choice_.vectors_at_once;
    for (std::int64_t first = 0; first == 0 || first < request_.count; first += at_once) {
      use(VectorGroup{first, smaller(request_.count - first, at_once)});
    }
  }

  double* fragments_of(const VectorGroup& group) const {
    return pieces_.vectors + group.first * pieces_.padded_columns;
  }

  void add_resident(const VectorGroup& group) {
    const MatrixView& rows = request_.features;
    const ResidentPlan plan = plan_resident_product(rows, group.resident_tiles(), device_);
    const ResidentLayout layout = resident_layout(plan, rows.dtype);
    const ResidentArguments arguments{rows,
                                      plan,
                                      layout,
                                      static_cast<int>(ceiling(rows.rows, layout.stage_rows)),
                                      static_cast<int>(rows.rows / layout.stage_rows),
                                      copy_kind(rows) == CopyKind::chunks,
                                      fragments_of(group),
                                      pieces_.shift,
                                      pieces_.padded_columns,
                                      1 + request_.count,
                                      1 + group.first,
                                      group.count,
                                      pieces_.image,
                                      pieces_.energy,
                                      request_.counts};
    add_resident_product(arguments, resident_product_blocks(rows, plan, device_), stream_);
  }

  void add_rows(std::int64_t first) {
    const std::int64_t count = smaller(request_.features.rows - first, pieces_.rows);
    const MatrixView rows = part_of(request_.features, first, count);
    for_groups([&](const VectorGroup& group) {
      with_row_type(rows.dtype, [&](auto row) {
        using Row = decltype(row);
        const ProductArguments arguments = arguments_of(group, rows, has_aligned_pieces<Row>(rows));
        if (device_.capability.major < 8) return launch_products<Row, 1, false>(arguments, first);
        if (group.tiles() == 1) return launch_products<Row, 1, true>(arguments, first);
        if (group.tiles() == 2) return launch_products<Row, 2, true>(arguments, first);
        launch_products<Row, most_tiles, true>(arguments, first);
      });
    });
  }

  ProductArguments arguments_of(const VectorGroup& group, const MatrixView& rows, bool is_aligned) const {
    return {rows,
            is_aligned,
            fragments_of(group),
            pieces_.shift,
            pieces_.column_parts,
            pieces_.padded_rows,
            pieces_.coefficients,
            pieces_.energies,
            pieces_.flags,
            pieces_.row_parts,
            pieces_.padded_columns,
            1 + request_.count,
            1 + group.first,
            group.count,
            pieces_.image};
  }

  template <class Row, int tiles, bool by_tensor_cores>
  void launch_products(const ProductArguments& arguments, std::int64_t first) {
    const MatrixView& rows = arguments.features;
    const std::int64_t row_blocks = ceiling(rows.rows, coefficient_rows<Row, tiles>);
    launch(coefficients_of_rows_kernel<Row, tiles, by_tensor_cores>, "coefficients_of_rows",
           {static_cast<unsigned>(row_blocks), static_cast<unsigned>(arguments.column_parts)}, product_block, 0,
           stream_, arguments);
    const bool is_first = arguments.first_unit == 1;
    const std::int64_t size = arguments.padded_rows * tiles * tile_vectors;
    settle_coefficients({arguments.coefficients, size, arguments.column_parts, arguments.flags, arguments.padded_rows,
                         rows.rows, first, is_first ? request_.counts : nullptr},
                        stream_);
    if (is_first) add_energies(totals(arguments.column_parts * row_blocks * product_warps), stream_);
    const std::int64_t column_blocks = ceiling(rows.columns, product_warps * image_columns);
    launch(image_of_rows_kernel<Row, tiles, by_tensor_cores>, "image_of_rows",
           {static_cast<unsigned>(column_blocks), static_cast<unsigned>(arguments.row_parts)}, product_block, 0,
           stream_, arguments);
  }

  TotalArguments totals(std::int64_t energy_count) const {
    return {pieces_.energies,
            energy_count,
            pieces_.energy,
            pieces_.energy_parts,
            pieces_.image,
            pieces_.row_parts,
            1 + request_.count,
            request_.features.columns,
            pieces_.padded_columns,
            request_.counts,
            sums_};
  }

  const ProductRequest& request_;
  const GramProduct& sums_;
  const DeviceLimits& device_;
  ProductChoice choice_;
  Stream stream_;
  Pieces pieces_;
};

}  // namespace

std::int64_t gram_product_workspace(const ProductRequest& request, const DeviceLimits& device) {
  if (request.features.rows == 0 || request.features.columns == 0) return 0;
  return pieces_of(request, device, nullptr).bytes;
}

void gram_product(const ProductRequest& request, const GramProduct& sums, const DeviceLimits& device, Stream stream) {
  if (request.features.rows == 0 || request.features.columns == 0) return;
  if (request.counts == nullptr) throw std::invalid_argument("a pass over rows needs memory for its counts");
  require_workspace(request.workspace, request.workspace_bytes, gram_product_workspace(request, device),
                    "gram_product");
  GramProductPass(request, sums, device, stream).run();
}

}  // namespace nrc_fast::cuda
