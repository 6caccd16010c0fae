// The residual kernel of tiles that tensor cores project, for any kind of products.
#pragma once

#include "cuda/residual/tensor_plan.h"
#include "cuda/residual/tile.h"

namespace nrc_fast::cuda {

// The residual of tiles of 128 rows.
template <class Products>
class TensorTile : public ResidualTile<typename Products::Row, typename Products::Value, tensor_rows> {
  using Base = ResidualTile<typename Products::Row, typename Products::Value, tensor_rows>;
  using Projection = TensorProjection<Products>;

 public:
  NRC_FAST_DEVICE explicit TensorTile(const ResidualArguments& arguments)
      : Base(arguments), projection_(arguments.rows, Base::memory_behind()) {}

  static constexpr std::int64_t shared_bytes() {
    constexpr auto explicit_bytes = static_cast<std::int64_t>(sizeof(StepShared<typename Products::Value>));
    return static_cast<std::int64_t>(sizeof(TileShared<tensor_rows>)) +
           (Projection::ring_bytes > explicit_bytes ? Projection::ring_bytes : explicit_bytes);
  }

  NRC_FAST_DEVICE void start(std::int64_t tile) { projection_.start(tile); }

  // One tile, whose copies have been started, and then those of the next.
  NRC_FAST_DEVICE void run(std::int64_t tile) {
    projection_.project([this](int group) {
      if (group == 0) finish_energies();
      if (this->arguments_.rows.layout.groups > 1) store_coefficients(group);
      add_squares(group);
    });
    const std::int64_t first_row = tile * tensor_rows;
    // Coefficients of the only group are still there.
    const unsigned in_explicit_form = this->find_residuals(first_row, [this] {
      if (this->arguments_.rows.layout.groups == 1) store_coefficients(0);
    });
    start(tile + grid_size());
    this->add_rows(first_row, in_explicit_form);
  }

 private:
  NRC_FAST_DEVICE void finish_energies() const {
    bool is_zero = false;
    const double energy = projection_.row_energy(is_zero);
    const int lane = Projection::lane();
    const int row = Projection::row_of_octet(lane % 4);
    this->shared_.energies[row] = energy;
    this->shared_.weights[row] = energy > 0.0 ? 1.0 / energy : 0.0;
    this->shared_.captured[row] = 0.0;
    int zero = is_zero ? 1 : 0;
#pragma unroll
    for (int mask = 1; mask < warp_lanes; mask *= 2) zero += shuffle_xor(zero, mask);
    if (lane == 0 && zero != 0) count_more(&this->arguments_.counts->zero, zero);
    synchronize_warp();
  }

  NRC_FAST_DEVICE void store_coefficients(int group) const {
    auto* const coefficients = this->block_coefficients();
#pragma unroll
    for (int i = 0; i < Products::wide * 2; ++i) {
      const std::int64_t vector = group * Products::wide * 8 + Projection::vector_of(i);
      if (vector >= this->arguments_.vectors) continue;
#pragma unroll
      for (int o = 0; o < octets; ++o) {
        coefficients[vector * tensor_rows + Projection::row_of_octet(o)] =
            static_cast<typename Products::Value>(projection_.coefficient(o, i));
      }
    }
  }

  // Squares of coefficients, over the vectors for each row and over the rows for each vector.
  NRC_FAST_DEVICE void add_squares(int group) const {
    double by_row[octets] = {0.0, 0.0, 0.0, 0.0};
    double weights[octets];
#pragma unroll
    for (int o = 0; o < octets; ++o) weights[o] = this->shared_.weights[Projection::row_of_octet(o)];
#pragma unroll
    for (int i = 0; i < Products::wide * 2; ++i) {
      double raw = 0.0;
      double unit = 0.0;
#pragma unroll
      for (int o = 0; o < octets; ++o) {
        const double coefficient = projection_.coefficient(o, i);
        const double square = coefficient * coefficient;
        by_row[o] += square;
        raw += square;
        unit += weights[o] * square;
      }
#pragma unroll
      for (int mask = 4; mask < warp_lanes; mask *= 2) {
        raw += shuffle_xor(raw, mask);
        unit += shuffle_xor(unit, mask);
      }
      if (Projection::lane() < 4) {
        this->shared_.squares[0][thread_index() / warp_lanes][Projection::vector_of(i)] = raw;
        this->shared_.squares[1][thread_index() / warp_lanes][Projection::vector_of(i)] = unit;
      }
    }
#pragma unroll
    for (int o = 0; o < octets; ++o) {
#pragma unroll
      for (int mask = 1; mask < 4; mask *= 2) by_row[o] += shuffle_xor(by_row[o], mask);
      if (Projection::lane() % 4 == o) this->shared_.captured[Projection::row_of_octet(o)] += by_row[o];
    }
    synchronize_block();
    this->add_vector_squares(group * Products::wide * 8, Products::wide * 8);
  }

  Projection projection_;
};

// Cards without tensor cores for float64 do without those for float32 too.
template <class Products>
NRC_FAST_GLOBAL(residual_threads, TensorProjection<Products>::blocks_at_once)
residual_tensor_kernel(ResidualArguments arguments) {
  if constexpr (!has_float64_tensor_cores) {
    fail();
  } else {
    TensorTile<Products> tile(arguments);
    tile.begin_sums();
    tile.start(block_index());
    const int tiles = static_cast<int>(ceiling(arguments.rows.features.rows, tensor_rows));
    const int blocks = static_cast<int>(grid_size());
    for (int index = static_cast<int>(block_index()); index < tiles; index += blocks) tile.run(index);
    tile.end_sums();
  }
}

template <class Products>
void launch_products(const ResidualArguments& arguments, std::int64_t blocks, Stream stream) {
  launch(residual_tensor_kernel<Products>, "residual_tensor", {static_cast<unsigned>(blocks)}, residual_threads,
         TensorTile<Products>::shared_bytes(), stream, arguments);
}

}  // namespace nrc_fast::cuda
