// What every instruction set provides: plain functions over one block of rows, filled in by the per-ISA
// translation units and called by the drivers gram.cpp, residual.cpp, target_sums.cpp and descent.cpp. No driver code
// is compiled per ISA.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace nrc_fast {

// The sums are those of h - shift, whatever is packed. `shift_high`, `shift_low`, `packed` and `column_sums` have the
// element type of the kernels; the shift is a sum of two such numbers, so that a float64 mean is subtracted from
// float32 rows exactly enough. Shifts and sums are padded as the panels are. Rows have unit column stride.
struct PackArguments {
  const void* rows;
  std::int64_t row_stride;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t first_panel;
  std::int64_t last_panel;
  const void* shift_high;
  const void* shift_low;
  const double* row_norms;     // null: h - shift; else each row is divided by its norm, and 0/0 is 0
  bool unit_rows_are_shifted;  // whether the row that is divided is h - shift, or h
  const double* unit_shift;    // that shift in float64, for norms that leave the range of the element type
  void* packed;
  void* column_sums;
};

// Memory that is fetched while something else is computed: what comes next of it, its end, and how much of it is
// fetched with each tile, so that it comes evenly.
struct RowsAhead {
  const char* next = nullptr;
  const char* last = nullptr;
  std::int64_t tile_bytes = 0;
};

// `tile` is [column of the left panel][column of the right panel], both of whole panels; right_panel <= left_panel.
// The first products that a tile is given are put in place of what was there.
struct TileArguments {
  const void* packed;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t left_panel;
  std::int64_t right_panel;
  double* tile;
  bool is_first;
};

// A block of bfloat16 rows that `pack` has packed in float32, to be packed as pairs of rows too. What these leave of
// the shift, and the sums that undo it, are of the length of the column sums.
struct PairArguments {
  PackArguments block;
  void* pairs;
  double* offsets;
  double* half_sums;
};

// The rows of `products` are pairs. Offsets are null where all are zero.
struct PairTileArguments {
  TileArguments products;
  const double* offsets;
  const double* half_sums;
};

// `shift` is null, or padded with zeros to a whole vector.
struct NormArguments {
  const void* rows;
  std::int64_t row_stride;
  std::int64_t row_count;
  std::int64_t columns;
  const double* shift;
  double* norms;
};

struct CountArguments {
  const void* rows;
  std::int64_t row_stride;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t first_index;
  bool check_finite;
  RowCounts* counts;
};

// `targets` is [row][target], `cross` is [target][column] with columns padded as in the panels.
struct CrossArguments {
  const void* packed;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t first_panel;
  std::int64_t last_panel;
  const double* targets;
  std::int64_t target_count;
  double* cross;
  std::int64_t cross_stride;
};

struct RowKernels {
  void (*norms[dtype_count])(const NormArguments&);
  void (*count[dtype_count])(const CountArguments&);
};

// Columns are padded to a multiple of `panel_step`: the last panel may be narrower than the others.
struct GramKernels {
  std::int64_t panel_width;
  std::int64_t panel_step;
  std::int64_t element_size;
  void (*pack[dtype_count])(const PackArguments&);
  void (*tile)(const TileArguments&, RowsAhead&);
  void (*cross)(const CrossArguments&);
};

// Of the processors that multiply pairs of bfloat16 numbers: panels and tiles are those of float32. `pack` says whether
// the pairs serve as well as the float32 block, which is used where they do not.
struct PairKernels {
  std::int64_t least_columns;  // of rows that are packed twice
  std::int64_t row_step;       // rows are padded with zeros to whole steps
  std::int64_t element_size;   // of all that `pack` writes for a row and a column
  bool (*pack)(const PairArguments&);
  void (*tile)(const PairTileArguments&, RowsAhead&);
};

// What a row is multiplied with, itself and vectors, in tiles of at most so many.
constexpr int most_units = 6;

// A group of rows, loaded less a shift, and its products with vectors. `loaded` is [row][padded column] and `vectors`
// [vector][padded column], each row `stride` elements behind the one before it, and `coefficients` is [vector][padded
// row], all of the element type of the kernels, as are the two parts of the shift. What lies behind the last row of a
// group is written too, up to whole vectors.
struct ProjectArguments {
  const void* rows;
  std::int64_t stored_size;  // of an element of the rows
  std::int64_t row_stride;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t padded_columns;
  std::int64_t stride;
  std::int64_t padded_rows;
  bool is_shifted;
  const void* shift_high;
  const void* shift_low;
  const void* vectors;
  std::int64_t vector_count;
  void* loaded;
  void* coefficients;
  double* energies;  // squared norms of what was loaded
  int* exponents;    // rows whose square over- or underflows are loaded divided by 2^exponent
  // The rows that lie so far ahead are fetched meanwhile, a share of each with every tile of vectors.
  std::int64_t rows_ahead;
  std::int64_t first_share;
  std::int64_t share_bytes;
};

// Sums are kept in so many lanes, of which an instruction set fills as many as its vectors have.
constexpr std::int64_t sum_lanes = 8;

// A group of rows that is loaded, and its products with a basis, whose arrays are those of a group. Weights and
// energies are zero behind the last row. Sums are [vector][lane]: += weight of the row times its squared coefficient,
// and behind the vectors its squared residual.
struct BasisArguments {
  const void* loaded;
  std::int64_t row_count;
  std::int64_t padded_rows;
  std::int64_t padded_columns;
  std::int64_t stride;
  const void* basis;
  std::int64_t vector_count;
  const void* coefficients;
  const double* energies;
  const double* raw_weights;
  const double* unit_weights;
  double least_expanded;  // share of its energy below which the residual of a row is explicit, the norm of x - U^T c
  double* residuals;
  double* raw_sums;
  double* unit_sums;
};

// Two arrays [output][row] of some rows, padded with zeros to whole `sum_lanes`: products [output of left][output of
// right] are the sums over the rows, and behind them is the sum of the squares of right.
struct OutputArguments {
  const double* left;
  const double* right;
  std::int64_t stride;
  std::int64_t padded_count;
  std::int64_t outputs;
  double* products;
};

// Rows in float64 that are loaded, and numbers that each of them is multiplied with: image [unit][column] += sum over
// rows of coefficient [row][unit] times the row. Rows and image are padded with zeros to whole vectors.
struct ImageArguments {
  const double* loaded;
  std::int64_t stride;
  std::int64_t row_count;
  std::int64_t columns;
  const double* coefficients;
  std::int64_t units;
  double* image;
  std::int64_t image_stride;
};

struct ResidualKernels {
  std::int64_t lanes;
  std::int64_t element_size;
  void (*project[dtype_count])(const ProjectArguments&);
  void (*add_residuals)(const BasisArguments&);
  void (*multiply_outputs)(const OutputArguments&);
  void (*add_images)(const ImageArguments&);  // null where elements are not float64
};

// Rows and columns of a block that is multiplied with a few vectors in float64, and the stride of its loaded rows,
// which keeps columns of all rows apart in the cache.
constexpr std::int64_t product_rows = 32;
constexpr std::int64_t product_columns = 256;
constexpr std::int64_t product_stride = product_columns + 8;

// Units are the row x itself and the vectors behind it. The arrays of a block hold `product_columns` columns, zeros
// behind the last one, and `loaded` and `coefficients` hold `product_rows` rows.
struct ProductArguments {
  const void* rows;  // at the first column of the block
  std::int64_t row_stride;
  std::int64_t row_count;
  std::int64_t columns;
  std::int64_t ahead;  // how many elements behind `rows` the rows of the next block are
  const double* shift;
  double* loaded;         // [row][column], x = h - shift
  bool keeps_rows;        // from the coefficients to the image
  const double* vectors;  // [vector][column]
  std::int64_t vector_count;
  double* coefficients;  // [row][unit]: += what the columns of the block give; what the image is multiplied with
  double* image;         // [unit][column]: += sum over rows of coefficient times x
};

struct ProductKernels {
  void (*multiply[dtype_count])(const ProductArguments&);
  void (*add_image[dtype_count])(const ProductArguments&);
};

// A block of targets y, and the numbers that are beside each sum in memory: a lane of float64 sums, and what these have
// no room for.
constexpr std::int64_t target_sum_size = 2 * sum_lanes;

// Values and rests are [column][padded row], of y, and of y - shift once they are added; sums are those of y - shift in
// each column, and behind them of the products of columns i and j <= i, a row of the triangle after the other.
struct TargetArguments {
  double* values;
  double* rests;
  std::int64_t stride;
  std::int64_t padded_rows;  // whole `sum_lanes`
  std::int64_t columns;
  const double* shift;
  double* sums;  // each [high, low][lane]
};

struct TargetKernels {
  void (*add)(const TargetArguments&);
};

// One problem of gradient descent on the unconstrained feature model; csrc/common/requests.h says what the arrays
// are. `scratch` holds 3 n stride + 2 rows n elements.
struct DescentArguments {
  std::int64_t d;
  std::int64_t n;
  std::int64_t stride;
  void* transform;
  void* weights;
  void* bias;
  void* transform_velocity;
  void* weight_velocity;
  void* bias_velocity;
  const void* moments;
  void* scratch;
  const double* rates;
  std::int64_t steps;
};

struct DescentKernels {
  std::int64_t element_size;
  std::int64_t rows;
  void (*descend)(const DescentArguments&);
};

struct KernelTable {
  const char* name;
  bool (*supported)();
  const RowKernels& (*rows)();
  const GramKernels& (*gram_float32)();
  const GramKernels& (*gram_float64)();
  const ResidualKernels& (*residual_float32)();
  const ResidualKernels& (*residual_float64)();
  const ProductKernels& (*products)();
  const TargetKernels& (*targets)();
  const DescentKernels& (*descent_float32)();
  const DescentKernels& (*descent_float64)();
  const PairKernels& (*gram_pairs)();  // null: there are none
};

}  // namespace nrc_fast
