// What tests hold against encoders of their own: where descriptors and tensor maps say that elements lie.
#include <pybind11/stl.h>

#include "common/addresses.h"
#include "cuda/emulation/bindings.h"
#include "cuda/emulation/warpgroup_products.h"
#include "cuda/machine/matrix_descriptor.h"
#include "cuda/machine/tensor_map.h"

namespace py = pybind11;

namespace nrc_fast::cuda {
namespace {

// Encodes a map, for what the driver would say of it.
void require_tensor_map(Address data, std::pair<std::uint64_t, std::uint64_t> dimensions, std::uint64_t row_bytes,
                        std::pair<std::uint32_t, std::uint32_t> box, int swizzle) {
  TensorMapArguments arguments{};
  arguments.address = pointer<const void>(data);
  arguments.dimensions[0] = dimensions.first;
  arguments.dimensions[1] = dimensions.second;
  arguments.row_bytes = row_bytes;
  arguments.box[0] = box.first;
  arguments.box[1] = box.second;
  arguments.swizzle = swizzle;
  encode_tensor_map(arguments);
}

}  // namespace

void bind_warpgroup_maths(py::module_& module) {
  module.def("matrix_descriptor",
             [](std::uint32_t address, std::uint32_t box_bytes) { return matrix_descriptor(address, box_bytes); });
  module.def("element_address", &emulation::element_address);
  module.def("box_chunk_offset", [](int row, int chunk) { return box_chunk_offset(row, chunk); });
  module.def("product_element", [](int thread, int reg) {
    const ProductElement element = product_element(thread, reg);
    return std::make_pair(element.row, element.column);
  });
  module.def("require_tensor_map", &require_tensor_map, py::arg("data"), py::kw_only(), py::arg("dimensions"),
             py::arg("row_bytes"), py::arg("box"), py::arg("swizzle"));
}

}  // namespace nrc_fast::cuda
