// Addresses, sizes, strides and a stream in; nothing is allocated and nothing waits for the device.
#include "cuda/bindings.h"

#include <pybind11/stl.h>

#include <stdexcept>
#include <vector>

#include "common/addresses.h"
#include "common/released_interpreter.h"
#include "cuda/descent/descent.h"
#include "cuda/gram/gram.h"
#include "cuda/gram/product.h"
#include "cuda/machine/runtime.h"
#include "cuda/residual/products.h"
#include "cuda/residual/residual.h"

namespace py = pybind11;

namespace nrc_fast::cuda {
namespace {

Precision precision_from_code(int code) {
  if (code < 0 || code > 2) {
    throw std::invalid_argument("precision code " + std::to_string(code) + " is not one of 0..2");
  }
  return static_cast<Precision>(code);
}

// Launches from a request with its workspace, on a device, without holding Python's lock.
template <class Request, class Run>
void launch(Request& request, Address workspace, std::int64_t workspace_bytes, int device, const Run& run) {
  const ReleasedInterpreter released;
  const CurrentDevice current(device);
  request.workspace = pointer<char>(workspace);
  request.workspace_bytes = workspace_bytes;
  run(device_limits(device));
}

GramRequest make_gram_request(const MatrixView& features, Address gram, Address column_sums, Address unit_gram,
                              Address shift, bool unit_rows_are_shifted, const MatrixView* targets,
                              Address target_shift, Address cross, Address target_gram, Address target_sums,
                              int precision, std::int64_t rows_at_once, Address counts, Address totals,
                              bool skips_nonfinite) {
  GramRequest request;
  request.features = features;
  request.gram = pointer<double>(gram);
  request.column_sums = pointer<double>(column_sums);
  request.unit_gram = pointer<double>(unit_gram);
  request.shift = pointer<const double>(shift);
  request.unit_rows_are_shifted = unit_rows_are_shifted;
  if (targets != nullptr) request.targets = *targets;
  request.target_shift = pointer<const double>(target_shift);
  request.cross = pointer<double>(cross);
  request.target_gram = pointer<double>(target_gram);
  request.target_sums = pointer<double>(target_sums);
  request.totals = pointer<DeviceTotals>(totals);
  request.skips_nonfinite = skips_nonfinite;
  request.precision = precision_from_code(precision);
  request.rows_at_once = rows_at_once;
  request.counts = pointer<RowCounts>(counts);
  return request;
}

void gram_of(GramRequest request, Address workspace, std::int64_t workspace_bytes, int device, Address stream) {
  launch(request, workspace, workspace_bytes, device,
         [&](const auto& limits) { gram(request, limits, stream_of(stream)); });
}

ResidualRequest make_residual_request(const MatrixView& features, Address basis, std::int64_t vectors, Address raw_sums,
                                      Address unit_sums, Address shift, Address row_residuals, Address row_energies,
                                      bool double_precision, Address expanded, Address counts) {
  return {make_residual_job(basis, vectors, raw_sums, unit_sums, shift, row_residuals, row_energies, expanded),
          features, double_precision, pointer<RowCounts>(counts)};
}

void residual_of(ResidualRequest request, Address workspace, std::int64_t workspace_bytes, int device, Address stream) {
  launch(request, workspace, workspace_bytes, device,
         [&](const auto& limits) { residual(request, limits, stream_of(stream)); });
}

ProductRequest make_product_request(const MatrixView& features, Address vectors, std::int64_t count,
                                    std::int64_t rows_at_once, Address counts) {
  if (count < 0) throw std::invalid_argument("there is no negative number of vectors");
  ProductRequest request;
  request.features = features;
  request.vectors = pointer<const double>(vectors);
  request.count = count;
  request.rows_at_once = rows_at_once;
  request.counts = pointer<RowCounts>(counts);
  return request;
}

void gram_product_of(ProductRequest request, Address shift, Address image, Address column_sums, Address energy,
                     Address workspace, std::int64_t workspace_bytes, int device, Address stream) {
  const GramProduct sums{pointer<const double>(shift), pointer<double>(image), pointer<double>(column_sums),
                         pointer<double>(energy)};
  launch(request, workspace, workspace_bytes, device,
         [&](const auto& limits) { gram_product(request, sums, limits, stream_of(stream)); });
}

void prediction_error_of(ProductRequest request, Address bias, const MatrixView& targets, Address errors, double scale,
                         Address products, Address workspace, std::int64_t workspace_bytes, int device,
                         Address stream) {
  const PredictionError sums{pointer<const double>(bias), targets, pointer<double>(errors), scale,
                             pointer<double>(products)};
  launch(request, workspace, workspace_bytes, device,
         [&](const DeviceLimits& limits) { prediction_error(request, sums, limits, stream_of(stream)); });
}

void descent_of(const DescentBatch& batch, Address workspace, std::int64_t workspace_bytes, int device,
                Address stream) {
  DescentRequest request{batch};
  launch(request, workspace, workspace_bytes, device,
         [&](const auto& limits) { descent(request, limits, stream_of(stream)); });
}

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
  config["left_out"] = split(NRC_FAST_CUDA_LEFT_OUT);  // of the default list: the compiler does not know them
  config["runtime"] = runtime_version();
  config["driver"] = driver_version();
  return config;
}

std::pair<int, int> device_capability(int device) {
  const Capability capability = device_limits(device).capability;
  return {capability.major, capability.minor};
}

std::string register_memory(Address address, std::int64_t bytes, int device) {
  const ReleasedInterpreter released;
  return register_host_memory(pointer<char>(address), bytes, device);
}

void unregister_memory(Address address, int device) {
  const ReleasedInterpreter released;
  unregister_host_memory(pointer<char>(address), device);
}

}  // namespace

// Classes are local to the module: the emulation has the same ones.
void bind_kernels(py::module_& module) {
  py::class_<MatrixView>(module, "Matrix", "A strided matrix in device memory that the caller keeps alive.",
                         py::module_local())
      .def(py::init(&make_view), py::arg("data"), py::arg("rows"), py::arg("columns"), py::arg("row_stride"),
           py::arg("column_stride"), py::arg("dtype"));
  py::class_<GramRequest>(module, "GramRequest", "What a Gram pass adds to which arrays in device memory.",
                          py::module_local())
      .def(py::init(&make_gram_request), py::arg("features"), py::kw_only(), py::arg("gram") = 0,
           py::arg("column_sums") = 0, py::arg("unit_gram") = 0, py::arg("shift") = 0,
           py::arg("unit_rows_are_shifted") = false, py::arg("targets") = nullptr, py::arg("target_shift") = 0,
           py::arg("cross") = 0, py::arg("target_gram") = 0, py::arg("target_sums") = 0, py::arg("precision") = 0,
           py::arg("rows_at_once") = 0, py::arg("counts") = 0, py::arg("totals") = 0,
           py::arg("skips_nonfinite") = false);
  module.attr("total_values") = sizeof(DeviceTotals) / 8;
  module.attr("total_block_rows") = total_block_rows;
  module.def(
      "gram_workspace",
      [](const GramRequest& request, int device) {
        const CurrentDevice current(device);
        return gram_workspace(request, device_limits(device));
      },
      py::arg("request"), py::arg("device"));
  module.def("gram", &gram_of, py::arg("request"), py::kw_only(), py::arg("workspace"), py::arg("workspace_bytes"),
             py::arg("device"), py::arg("stream"));

  py::class_<ResidualRequest>(module, "ResidualRequest", "One basis of a residual pass, and where its sums go.",
                              py::module_local())
      .def(py::init(&make_residual_request), py::arg("features"), py::arg("basis"), py::arg("vectors"), py::kw_only(),
           py::arg("raw_sums") = 0, py::arg("unit_sums") = 0, py::arg("shift") = 0, py::arg("row_residuals") = 0,
           py::arg("row_energies") = 0, py::arg("double_precision") = false, py::arg("expanded") = 0,
           py::arg("counts") = 0);
  module.def(
      "residual_workspace",
      [](const ResidualRequest& request, int device) { return residual_workspace(request, device_limits(device)); },
      py::arg("request"), py::arg("device"));
  module.def("residual", &residual_of, py::arg("request"), py::kw_only(), py::arg("workspace"),
             py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"));

  py::class_<ProductRequest>(module, "ProductRequest", "Rows, and a few vectors to multiply them with.",
                             py::module_local())
      .def(py::init(&make_product_request), py::arg("features"), py::arg("vectors"), py::arg("count"), py::kw_only(),
           py::arg("rows_at_once") = 0, py::arg("counts") = 0);
  module.def(
      "gram_product_workspace",
      [](const ProductRequest& request, int device) {
        const CurrentDevice current(device);
        return gram_product_workspace(request, device_limits(device));
      },
      py::arg("request"), py::arg("device"));
  module.def("gram_product", &gram_product_of, py::arg("request"), py::kw_only(), py::arg("shift"), py::arg("image"),
             py::arg("column_sums"), py::arg("energy"), py::arg("workspace"), py::arg("workspace_bytes"),
             py::arg("device"), py::arg("stream"));
  module.def(
      "prediction_error_workspace",
      [](const ProductRequest& request, int device) {
        return prediction_error_workspace(request, device_limits(device));
      },
      py::arg("request"), py::arg("device"));
  module.def("prediction_error", &prediction_error_of, py::arg("request"), py::kw_only(), py::arg("bias"),
             py::arg("targets"), py::arg("errors"), py::arg("scale") = 1.0, py::arg("products") = 0,
             py::arg("workspace"), py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"));

  py::class_<DescentBatch>(module, "DescentRequest", "States of gradient descent, and how many steps each takes.",
                           py::module_local())
      .def(py::init(&make_descent_batch), py::kw_only(), py::arg("problems"), py::arg("d"), py::arg("n"),
           py::arg("stride"), py::arg("transforms"), py::arg("weights"), py::arg("biases"),
           py::arg("transform_velocities"), py::arg("weight_velocities"), py::arg("bias_velocities"),
           py::arg("moments"), py::arg("moment_index"), py::arg("rates"), py::arg("steps"),
           py::arg("double_precision"));
  module.def(
      "descent_workspace",
      [](const DescentBatch& batch, int device) { return descent_workspace(batch, device_limits(device)); },
      py::arg("request"), py::arg("device"));
  module.def("descent", &descent_of, py::arg("request"), py::kw_only(), py::arg("workspace"),
             py::arg("workspace_bytes"), py::arg("device"), py::arg("stream"));

  module.def("build_config", &build_config);
  module.def("device_count", &device_count);
  module.def("device_problem", &device_problem);
  module.def("device_name", &device_name, py::arg("device"));
  module.def("device_capability", &device_capability, py::arg("device"));
  module.def("register_host_memory", &register_memory, py::arg("address"), py::arg("size"), py::arg("device"));
  module.def("unregister_host_memory", &unregister_memory, py::arg("address"), py::arg("device"));
  module.def("multiprocessors", [](int device) { return device_limits(device).multiprocessors; }, py::arg("device"));
}

}  // namespace nrc_fast::cuda
