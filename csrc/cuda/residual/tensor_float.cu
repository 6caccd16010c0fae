// The residual of rows that are not float64 in float32, by the tensor cores of 16-bit numbers.
#include "cuda/residual/tensor_kernel.h"

namespace nrc_fast::cuda {
namespace {

template <class Products>
struct Kind {
  using Type = Products;
};

// Calls `use` with the kind of products that a pass needs.
template <class Use>
auto with_products(DType rows, bool is_shifted, int width, const Use& use) {
  return with_width(width, [&](auto wide) {
    constexpr int eights = decltype(wide)::value;
    switch (rows) {
      case DType::float16:
        return is_shifted ? use(Kind<FloatProducts<Float16, true, true, eights>>{})
                          : use(Kind<FloatProducts<Float16, false, false, eights>>{});
      case DType::bfloat16:
        return is_shifted ? use(Kind<FloatProducts<BFloat16, true, true, eights>>{})
                          : use(Kind<FloatProducts<BFloat16, false, false, eights>>{});
      default:
        return is_shifted ? use(Kind<FloatProducts<float, true, true, eights>>{})
                          : use(Kind<FloatProducts<float, true, false, eights>>{});
    }
  });
}

}  // namespace

TensorPlan plan_float_tensor(DType rows, std::int64_t columns, std::int64_t vectors, bool has_shift) {
  return with_products(rows, has_shift, group_width(vectors), [&](auto kind) {
    using Products = typename decltype(kind)::Type;
    const FragmentKind fragments = Products::is_bfloat16 ? FragmentKind::bfloat16 : FragmentKind::float16;
    return plan_products<Products>(fragments, has_shift, columns, vectors);
  });
}

void launch_float_tensor(const ResidualArguments& arguments, std::int64_t blocks, Stream stream) {
  with_products(arguments.rows.features.dtype, arguments.shift != nullptr, arguments.rows.layout.wide,
                [&](auto kind) { launch_products<typename decltype(kind)::Type>(arguments, blocks, stream); });
}

}  // namespace nrc_fast::cuda
