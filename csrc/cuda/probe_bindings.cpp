// The probes of Hopper's instructions, and the choice that rests on them, for Python.
#include <stdexcept>

#include "common/addresses.h"
#include "common/released_interpreter.h"
#include "cuda/bindings.h"
#include "cuda/machine/runtime.h"
#include "cuda/machine/warpgroup_choice.h"
#include "cuda/probes/probes.h"

namespace py = pybind11;

namespace nrc_fast::cuda {
namespace {

void require_hopper(int device) {
  const Capability capability = device_limits(device).capability;
  if (capability.major == 9 && capability.minor == 0) return;
  throw std::invalid_argument("device " + std::to_string(device) + " has compute capability " +
                              std::to_string(capability.major) + "." + std::to_string(capability.minor) +
                              "; warpgroups multiply on 9.0 alone");
}

void product_of(Address rows, Address sums, int dtype, int columns, int device, Address stream) {
  if (dtype != static_cast<int>(DType::float16) && dtype != static_cast<int>(DType::bfloat16)) {
    throw std::invalid_argument("dtype code " + std::to_string(dtype) + " is not that of float16 or bfloat16");
  }
  if (columns != 64 && columns != 128) throw std::invalid_argument("a product has 64 or 128 columns");
  require_hopper(device);
  const ReleasedInterpreter released;
  const CurrentDevice current(device);
  probe_product({pointer<const std::uint16_t>(rows), pointer<float>(sums)}, static_cast<DType>(dtype), columns,
                stream_of(stream));
}

void box_of(const MatrixView& matrix, int column, int row, Address box, int device, Address stream) {
  require_hopper(device);
  const ReleasedInterpreter released;
  const CurrentDevice current(device);
  probe_box({static_cast<const std::uint16_t*>(static_cast<const void*>(matrix.data)), matrix.rows, matrix.columns,
             matrix.row_stride, column, row, pointer<std::uint16_t>(box)},
            stream_of(stream));
}

void ring_of(const MatrixView& matrix, Address sums, int device, Address stream) {
  require_hopper(device);
  const ReleasedInterpreter released;
  const CurrentDevice current(device);
  probe_ring({static_cast<const std::uint16_t*>(static_cast<const void*>(matrix.data)), matrix.rows, matrix.row_stride,
              pointer<std::int64_t>(sums)},
             stream_of(stream));
}

void allow_warpgroups(int device, bool runs) {
  if (runs) require_hopper(device);
  WarpgroupChoice::instance().set(device, runs);
}

}  // namespace

void bind_probes(py::module_& module) {
  module.attr("ring_sums") = ring_sums;
  module.def("probe_product", &product_of, py::arg("rows"), py::arg("sums"), py::kw_only(), py::arg("dtype"),
             py::arg("columns"), py::arg("device"), py::arg("stream"));
  module.def("probe_box", &box_of, py::arg("matrix"), py::kw_only(), py::arg("column"), py::arg("row"), py::arg("box"),
             py::arg("device"), py::arg("stream"));
  module.def("probe_ring", &ring_of, py::arg("matrix"), py::kw_only(), py::arg("sums"), py::arg("device"),
             py::arg("stream"));
  module.def("allow_warpgroups", &allow_warpgroups, py::arg("device"), py::arg("runs"));
  module.def("runs_warpgroups", [](int device) { return device_limits(device).runs_warpgroups; }, py::arg("device"));
}

}  // namespace nrc_fast::cuda
