#include "cuda/machine/tensor_map.h"

#include "cuda/machine/driver.h"

namespace nrc_fast::cuda {
namespace {

using Encode = DriverStatus (*)(TensorMap*, int, std::uint32_t, void*, const std::uint64_t*, const std::uint64_t*,
                                const std::uint32_t*, const std::uint32_t*, int, int, int, int);

}  // namespace

TensorMap encode_tensor_map(const TensorMapArguments& arguments) {
  static const auto encode = driver_function<Encode>("cuTensorMapEncodeTiled", 12000);
  TensorMap map{};
  check_driver(encode(&map, arguments.data_type, 2, const_cast<void*>(arguments.address), arguments.dimensions,
                      &arguments.row_bytes, arguments.box, arguments.steps, arguments.interleave, arguments.swizzle,
                      arguments.promotion, arguments.outside),
               "cuTensorMapEncodeTiled");
  return map;
}

}  // namespace nrc_fast::cuda
