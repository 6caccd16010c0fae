// nrc_fast._cuda: addresses, sizes, strides and a stream in; nothing is allocated and nothing waits for the device.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "cuda/runtime.h"

namespace py = pybind11;

namespace nrc_fast::cuda {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (start < text.size()) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

py::dict build_config() {
  py::dict config;
  config["version"] = NRC_FAST_VERSION;
  config["compiler"] = NRC_FAST_CUDA_COMPILER;
  config["architectures"] = split(NRC_FAST_CUDA_ARCHITECTURES);
  config["ptx"] = NRC_FAST_CUDA_PTX;
  config["runtime"] = runtime_version();
  config["driver"] = driver_version();
  return config;
}

std::pair<int, int> device_capability(int device) {
  const Capability capability = device_limits(device).capability;
  return {capability.major, capability.minor};
}

}  // namespace
}  // namespace nrc_fast::cuda

PYBIND11_MODULE(NRC_FAST_MODULE, module) {
  using namespace nrc_fast::cuda;
  module.doc() = "Compiled kernels of nrc_fast for CUDA devices. Private.";
  module.def("build_config", &build_config);
  module.def("device_count", &device_count);
  module.def("device_problem", &device_problem);
  module.def("device_name", &device_name, py::arg("device"));
  module.def("device_capability", &device_capability, py::arg("device"));
}
