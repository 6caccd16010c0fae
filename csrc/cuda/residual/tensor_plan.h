// How the basis is laid out for tensor cores, and which kind of products a pass needs: on the host.
#pragma once

#include "cuda/residual/tensor_launch.h"
#include "cuda/residual/tensor_products.h"

namespace nrc_fast::cuda {

// Eights of vectors in a group, of which there are as few as may be.
inline std::int64_t eights_of_vectors(std::int64_t vectors) { return ceiling(vectors < 1 ? 1 : vectors, 8); }
inline std::int64_t groups_of_vectors(std::int64_t vectors) {
  return ceiling(eights_of_vectors(vectors), group_vectors / 8);
}
inline int group_width(std::int64_t vectors) {
  return static_cast<int>(ceiling(eights_of_vectors(vectors), groups_of_vectors(vectors)));
}

template <class Products>
TensorPlan plan_products(FragmentKind kind, bool has_shift, std::int64_t columns, std::int64_t vectors) {
  using Projection = TensorProjection<Products>;
  TensorPlan plan;
  plan.layout.kind = kind;
  plan.layout.groups = groups_of_vectors(vectors);
  plan.layout.wide = Products::wide;
  plan.layout.steps = ceiling(columns, 4 * Products::lane_columns);
  plan.layout.lane_columns = Products::lane_columns;
  plan.layout.piece_columns = Products::piece_columns;
  plan.layout.fragment_columns = Products::columns_at_once;
  plan.layout.has_shift = has_shift;
  plan.blocks_per_multiprocessor = Projection::blocks_at_once;
  return plan;
}

// Calls `use` with a value that knows at compile time how many eights of vectors a group has.
template <class Use>
auto with_width(int width, const Use& use) {
  switch (width) {
    case 1:
      return use(std::integral_constant<int, 1>{});
    case 2:
      return use(std::integral_constant<int, 2>{});
    case 3:
      return use(std::integral_constant<int, 3>{});
    default:
      return use(std::integral_constant<int, 4>{});
  }
}

}  // namespace nrc_fast::cuda
