// V sum (h - s)(h - s)^T in one read: groups of rows and blocks of columns, so that every array that a block touches
// stays in the caches. A group is held against all blocks of the vectors before the first block of the image is added.
#include "cpu/residual/gram_product.h"

#include <cmath>
#include <vector>

#include "cpu/machine/isa.h"
#include "cpu/residual/summed_pass.h"

namespace nrc_fast {
namespace {

// Beyond these the square of a row may have lost digits or be infinite.
constexpr double smallest_safe_energy = 0x1p-900;
constexpr double largest_safe_energy = 0x1p900;

// Vectors and shift, a block of columns after the other.
struct ProductBasis {
  ProductBasis(const ProductRequest& request, const double* shift_values)
      : columns(request.features.columns),
        block_count((columns + product_columns - 1) / product_columns),
        vector_count(request.count),
        vectors(block_count * vector_count * product_columns * 8),
        shift(shift_values, columns, block_count * product_columns, 8) {
    for (std::int64_t k = 0; k < vector_count; ++k) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const std::int64_t block = c / product_columns;
        vectors.as<double>()[(block * vector_count + k) * product_columns + c % product_columns] =
            request.vectors[k * columns + c];
      }
    }
  }

  std::int64_t units() const { return 1 + vector_count; }
  std::int64_t image_size() const { return block_count * units() * product_columns; }

  std::int64_t columns;
  std::int64_t block_count;
  std::int64_t vector_count;
  Buffer vectors;
  Shift shift;
};

// Scratch of one thread, and what it has found in the rows.
struct ProductSpace {
  static constexpr std::int64_t row_capacity = product_rows;
  static constexpr std::int64_t gathered_rows = product_rows;
  static constexpr std::int64_t block_size = row_capacity * product_stride;
  // More of them crowd the second-level cache: loading again is faster.
  static constexpr std::int64_t most_kept_blocks = 8;

  ProductSpace(const Matrix& features, const ProductBasis& basis)
      : reader(features, gathered_rows),
        keeps_rows(basis.block_count <= most_kept_blocks),
        loaded((keeps_rows ? basis.block_count : 1) * block_size * 8),
        coefficients(row_capacity * basis.units() * 8),
        scaled_row(basis.columns * 8, Contents::anything) {
    scaled.reserve(row_capacity);
  }

  RowReader reader;
  bool keeps_rows;
  Buffer loaded;
  Buffer coefficients;
  std::vector<std::int64_t> scaled;  // rows of a group that are too large or too small to be squared
  Buffer scaled_row;
  ReadCounts counts;
};

class GramProductPass {
 public:
  GramProductPass(const ProductRequest& request, const double* shift)
      : kernels_(current_kernels().products()), dtype_(request.features.dtype), basis_(request, shift) {}

  const ProductBasis& basis() const { return basis_; }

  void add(const RowGroup& group, ProductSpace& space, double* image) const {
    const Rows rows{group.rows, group.row_stride, group.count, dtype_, basis_.shift.high.as<double>()};
    find_coefficients(rows, space);
    image[basis_.image_size()] += settle(group, space);
    add_image(rows, space, image);
    for (const std::int64_t row : space.scaled) add_scaled(group, row, space, image);
  }

 private:
  // Of a group, in memory.
  struct Rows {
    const char* values;
    std::int64_t stride;
    std::int64_t count;
    DType dtype;
    const double* shift;  // padded
  };

  ProductArguments arguments(const Rows& rows, std::int64_t block, const ProductSpace& space) const {
    const std::int64_t first = block * product_columns;
    return {rows.values + first * size_of(rows.dtype),
            rows.stride,
            rows.count,
            std::min(product_columns, basis_.columns - first),
            product_columns,
            rows.shift + first,
            space.loaded.as<double>() + (space.keeps_rows ? block * ProductSpace::block_size : 0),
            space.keeps_rows,
            basis_.vectors.as<double>() + first * basis_.vector_count,
            basis_.vector_count,
            space.coefficients.as<double>(),
            nullptr};
  }

  // How far behind the last block the first one lies: of these rows again, or of the rows behind them.
  std::int64_t to_first_block(const Rows& rows, bool again) const {
    return (again ? 0 : rows.count * rows.stride) - (basis_.block_count - 1) * product_columns;
  }

  void find_coefficients(const Rows& rows, const ProductSpace& space) const {
    std::fill_n(space.coefficients.as<double>(), ProductSpace::row_capacity * basis_.units(), 0.0);
    for (std::int64_t block = 0; block < basis_.block_count; ++block) {
      ProductArguments task = arguments(rows, block, space);
      if (block + 1 == basis_.block_count) task.ahead = to_first_block(rows, !space.keeps_rows);
      kernels_.multiply[static_cast<int>(rows.dtype)](task);
    }
  }

  void add_image(const Rows& rows, const ProductSpace& space, double* image) const {
    for (std::int64_t block = 0; block < basis_.block_count; ++block) {
      ProductArguments task = arguments(rows, block, space);
      task.image = image + block * basis_.units() * product_columns;
      if (block + 1 == basis_.block_count) task.ahead = to_first_block(rows, false);
      kernels_.add_image[static_cast<int>(rows.dtype)](task);
    }
  }

  // The energy of a group, in whose coefficients the row itself counts once from now on. Rows that cannot be squared
  // are set aside, and add nothing.
  double settle(const RowGroup& group, ProductSpace& space) const {
    double sum = 0.0;
    space.scaled.clear();
    for (std::int64_t r = 0; r < group.count; ++r) {
      double* const coefficients = space.coefficients.as<double>() + r * basis_.units();
      const double energy = coefficients[0];
      if (energy > smallest_safe_energy && energy < largest_safe_energy) {
        sum += energy;
        coefficients[0] = 1.0;
      } else {
        std::fill_n(coefficients, basis_.units(), 0.0);
        space.scaled.push_back(r);
      }
    }
    return sum;
  }

  // A row divided by a power of two, which costs no digit. It is shifted already: of a float64 shift nothing is left.
  void add_scaled(const RowGroup& group, std::int64_t row, ProductSpace& space, double* image) const {
    double* const values = space.scaled_row.as<double>();
    const MatrixView view{group.rows, group.count, basis_.columns, group.row_stride, 1, dtype_};
    load_as_double(view, row, 1, basis_.shift.high.as<double>(), values);
    double largest = 0.0;
    for (std::int64_t c = 0; c < basis_.columns; ++c) {
      if (!std::isfinite(values[c])) return merge(space.counts, nonfinite_row(group.first + row));
      largest = std::max(largest, std::fabs(values[c]));
    }
    if (largest == 0.0) return;
    int exponent = 0;
    (void)std::frexp(largest, &exponent);
    for (std::int64_t c = 0; c < basis_.columns; ++c) values[c] = std::ldexp(values[c], -exponent);
    const Rows scaled{space.scaled_row.as<char>(), basis_.columns, 1, DType::float64, basis_.shift.low.as<double>()};
    find_coefficients(scaled, space);
    double* const coefficients = space.coefficients.as<double>();
    for (std::int64_t u = 0; u < basis_.units(); ++u) coefficients[u] = std::ldexp(coefficients[u], 2 * exponent);
    image[basis_.image_size()] += coefficients[0];
    coefficients[0] = std::ldexp(1.0, exponent);
    add_image(scaled, space, image);
  }

  const ProductKernels& kernels_;
  DType dtype_;
  ProductBasis basis_;
};

}  // namespace

ReadCounts gram_product(const ProductRequest& request, const GramProduct& sums) {
  const Matrix& features = request.features;
  if (features.rows == 0 || features.columns == 0) return {};
  const GramProductPass pass(request, sums.shift);
  const ProductBasis& basis = pass.basis();
  std::vector<ProductSpace> spaces;
  for (int p = product_parts(features, basis.units()); p > 0; --p) spaces.emplace_back(features, basis);
  // Behind the images, the energy.
  std::vector<double> found(static_cast<std::size_t>(basis.image_size() + 1));
  const ReadCounts counts =
      summed_pass(features, spaces, basis.image_size() + 1, found.data(),
                  [&](const RowGroup& group, ProductSpace& space, double* image) { pass.add(group, space, image); });
  for (std::int64_t c = 0; c < features.columns; ++c) {
    const double* unit = found.data() + c / product_columns * basis.units() * product_columns + c % product_columns;
    sums.column_sums[c] += *unit;
    for (std::int64_t k = 0; k < request.count; ++k) sums.image[k * features.columns + c] += *(unit += product_columns);
  }
  *sums.energy += found.back();
  return counts;
}

}  // namespace nrc_fast
