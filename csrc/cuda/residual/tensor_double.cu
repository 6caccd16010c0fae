// The residual in float64 by tensor cores.
#include "cuda/residual/tensor_kernel.h"

namespace nrc_fast::cuda {

TensorPlan plan_double_tensor(DType rows, std::int64_t columns, std::int64_t vectors) {
  TensorPlan plan;
  with_row_type(rows, [&](auto row) {
    with_width(group_width(vectors), [&](auto wide) {
      plan = plan_products<DoubleProducts<decltype(row), decltype(wide)::value>>(FragmentKind::float64, true, columns,
                                                                                 vectors);
    });
  });
  return plan;
}

void launch_double_tensor(const ResidualArguments& arguments, std::int64_t blocks, Stream stream) {
  with_row_type(arguments.rows.features.dtype, [&](auto row) {
    with_width(arguments.rows.layout.wide, [&](auto wide) {
      launch_products<DoubleProducts<decltype(row), decltype(wide)::value>>(arguments, blocks, stream);
    });
  });
}

}  // namespace nrc_fast::cuda
