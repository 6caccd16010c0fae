// What goes before the products with a Gram, between the two, and behind them: vectors as the lanes read them, and sums
// of parts in their order.
#pragma once

#include "cuda/gram/product.h"

namespace nrc_fast::cuda {

// The shift, padded with zeros.
struct ShiftArguments {
  const double* shift;  // null: zeros
  std::int64_t columns;
  double* padded_shift;
  std::int64_t padded_columns;
};

// Vectors in fragments.
struct VectorArguments {
  const double* vectors;
  std::int64_t columns;
  std::int64_t count;  // of this group
  std::int64_t tiles;
  int at_once;  // values of a row in 16 bytes
  double* fragments;
  std::int64_t size;
};

// Parts of the columns of some coefficients, and what was seen of their rows.
struct SettleArguments {
  double* coefficients;
  std::int64_t size;  // of a part of the columns
  std::int64_t parts;
  const unsigned char* flags;
  std::int64_t padded_rows;
  std::int64_t rows;
  std::int64_t first_row;
  RowCounts* counts;  // null: they were counted with the first vectors
};

// Parts of the image and of the energy.
struct TotalArguments {
  const double* energies;
  std::int64_t energy_count;
  CompensatedSum* energy;  // in parts
  std::int64_t energy_parts;
  const CompensatedSum* image;
  std::int64_t parts;
  std::int64_t units;
  std::int64_t columns;
  std::int64_t padded_columns;
  const RowCounts* counts;
  GramProduct sums;
};

void prepare_shift(const ShiftArguments& arguments, Stream stream);
void prepare_vectors(const VectorArguments& arguments, Stream stream);
void settle_coefficients(const SettleArguments& arguments, Stream stream);
void add_energies(const TotalArguments& arguments, Stream stream);
void add_image(const TotalArguments& arguments, Stream stream);

}  // namespace nrc_fast::cuda
