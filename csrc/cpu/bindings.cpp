// nrc_fast.kernels._cpu: pointers, sizes and strides in, numbers out. Checks of what users give are in
// nrc_fast/kernels/calls.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "common/addresses.h"
#include "common/released_interpreter.h"
#include "cpu/descent/descent.h"
#include "cpu/gram/gram.h"
#include "cpu/machine/buffer.h"
#include "cpu/machine/isa.h"
#include "cpu/machine/thread_pool.h"
#include "cpu/residual/gram_product.h"
#include "cpu/residual/residual.h"

namespace py = pybind11;

namespace nrc_fast {
namespace {

Matrix matrix_in_file(int file, std::int64_t offset, std::int64_t rows, std::int64_t columns, int dtype) {
  if (file < 0 || offset < 0) throw std::invalid_argument("a matrix in a file needs a descriptor and an offset");
  return {make_view(0, rows, columns, columns, 1, dtype), file, offset};
}

// What an array of Python's says about its memory.
class ArrayView {
 public:
  explicit ArrayView(const py::object& array) {
    if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_STRIDED_RO) != 0) throw py::error_already_set();
  }
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;
  ~ArrayView() { PyBuffer_Release(&view_); }

  Address address() const { return reinterpret_cast<Address>(view_.buf); }  // NOLINT: Python holds the memory
  const Py_buffer& get() const { return view_; }

 private:
  Py_buffer view_;
};

// 0 for None, and where there are no elements.
Address address_of(const py::object& array) {
  if (array.is_none()) return 0;
  const ArrayView view(array);
  return view.get().len == 0 ? 0 : view.address();
}

void copy_past_cache_of(Address target, Address source, std::int64_t size) {
  copy_past_cache(pointer<char>(target), pointer<char>(source), static_cast<std::size_t>(size));
}

void release_pages_of(Address address, std::int64_t size) { release_pages(pointer<char>(address), size); }

Matrix matrix_of(const py::object& array, int dtype) {
  const ArrayView view(array);
  const Py_buffer& buffer = view.get();
  if (buffer.ndim != 2 || buffer.itemsize != size_of(dtype_from_code(dtype))) {
    throw std::invalid_argument("a matrix has two axes and elements of its dtype");
  }
  return {make_view(view.address(), buffer.shape[0], buffer.shape[1], buffer.strides[0] / buffer.itemsize,
                    buffer.strides[1] / buffer.itemsize, dtype)};
}

// A descriptor that is closed with the object.
class ReadableFile {
 public:
  explicit ReadableFile(int descriptor) : descriptor_(descriptor) {}
  ReadableFile(const ReadableFile&) = delete;
  ReadableFile& operator=(const ReadableFile&) = delete;
  ~ReadableFile() { close(descriptor_); }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

// An array of float64 numbers without content, whose memory is kept for the next one when it goes.
py::array_t<double> kept_empty(std::int64_t rows, std::int64_t columns) {
  auto buffer = std::make_unique<Buffer>(rows * columns * 8, Contents::anything);
  const double* const numbers = buffer->as<double>();
  const py::capsule owner(buffer.release(), [](void* kept) { delete static_cast<Buffer*>(kept); });
  return py::array_t<double>({rows, columns}, numbers, owner);
}

const MatrixView& in_memory(const Matrix& targets) {
  if (targets.is_in_file()) throw std::invalid_argument("targets must be in memory");
  return targets;
}

template <std::size_t count>
std::array<Address, count> addresses_of(const py::tuple& arrays) {
  if (arrays.size() != count) throw std::invalid_argument("expected " + std::to_string(count) + " arrays");
  std::array<Address, count> addresses{};
  for (std::size_t i = 0; i < count; ++i) addresses[i] = address_of(arrays[i]);
  return addresses;
}

// In pairs and in the order of the sums: pybind11 takes a microsecond to read names of arguments.
GramCounts gram_of(const std::pair<Matrix, const Matrix*>& rows, const py::tuple& shifts, const py::tuple& sums,
                   const py::tuple& onto, const std::pair<bool, bool>& options) {
  const auto [features, targets] = rows;
  const auto [shift, target_shift] = addresses_of<2>(shifts);
  const auto [gram_address, unit_gram, column_sums, cross, target_gram, target_sums, gram_rest, sums_rest] =
      addresses_of<8>(sums);
  const auto [gram_onto, unit_gram_onto, targets_onto, target_sums_onto, gram_rest_onto, sums_rest_onto] =
      addresses_of<6>(onto);
  GramRequest request;
  request.features = features;
  request.shift = pointer<const double>(shift);
  request.gram = pointer<double>(gram_address);
  request.gram_onto = pointer<const double>(gram_onto);
  request.column_sums = pointer<double>(column_sums);
  request.unit_gram = pointer<double>(unit_gram);
  request.unit_gram_onto = pointer<const double>(unit_gram_onto);
  std::tie(request.unit_rows_are_shifted, request.double_precision) = options;
  if (targets != nullptr) {
    request.targets = in_memory(*targets);
    request.target_shift = pointer<const double>(target_shift);
    request.cross = pointer<double>(cross);
    request.target_gram = pointer<double>(target_gram);
    request.target_sums = pointer<double>(target_sums);
    request.target_gram_rest = pointer<double>(gram_rest);
    request.target_sums_rest = pointer<double>(sums_rest);
    request.targets_onto = {pointer<const double>(targets_onto), pointer<const double>(gram_rest_onto),
                            pointer<const double>(target_sums_onto), pointer<const double>(sums_rest_onto)};
  }
  const ReleasedInterpreter released;
  return gram(request);
}

BasisJob make_basis_job(Address basis, std::int64_t vectors, Address raw_sums, Address unit_sums, Address shift,
                        Address row_residuals, Address row_energies, Address expanded, std::int64_t imaged,
                        const std::tuple<Address, Address, Address>& images) {
  if (imaged < 0 || imaged > vectors) throw std::invalid_argument("images are of some of the vectors");
  const auto [raw_image, unit_image, shift_sums] = images;
  return {make_residual_job(basis, vectors, raw_sums, unit_sums, shift, row_residuals, row_energies, expanded), imaged,
          pointer<double>(raw_image), pointer<double>(unit_image), pointer<double>(shift_sums)};
}

ReadCounts residual_of(const Matrix& features, const std::vector<BasisJob>& jobs, bool double_precision,
                       const Prediction* prediction) {
  ResidualRequest request{features, jobs, double_precision, {}};
  if (prediction != nullptr) request.prediction = *prediction;
  const ReleasedInterpreter released;
  return residual(request);
}

Prediction make_prediction(Address weights, Address bias, const Matrix& targets, Address errors, double scale,
                           Address products) {
  return {{pointer<const double>(bias), in_memory(targets), pointer<double>(errors), scale, pointer<double>(products)},
          pointer<const double>(weights)};
}

ReadCounts gram_product_of(const Matrix& features, Address shift, Address vectors, std::int64_t count, Address image,
                           Address column_sums, Address energy) {
  const GramProduct sums{pointer<const double>(shift), pointer<double>(image), pointer<double>(column_sums),
                         pointer<double>(energy)};
  const ReleasedInterpreter released;
  return gram_product({features, pointer<const double>(vectors), count}, sums);
}

void descent_of(std::int64_t problems, std::int64_t d, std::int64_t n, std::int64_t stride, Address transforms,
                Address weights, Address biases, Address transform_velocities, Address weight_velocities,
                Address bias_velocities, Address moments, Address moment_index, Address rates, Address steps,
                bool double_precision) {
  const DescentBatch batch =
      make_descent_batch(problems, d, n, stride, transforms, weights, biases, transform_velocities, weight_velocities,
                         bias_velocities, moments, moment_index, rates, steps, double_precision);
  const ReleasedInterpreter released;
  descent(batch);
}

py::dict build_config() {
  py::dict config;
  config["version"] = NRC_FAST_VERSION;
  config["compiler"] = NRC_FAST_COMPILER;
  config["flags"] = NRC_FAST_FLAGS;
  config["isas"] = built_isas();
  config["gram_block_rows"] = gram_block_rows;
  return config;
}

}  // namespace
}  // namespace nrc_fast

PYBIND11_MODULE(_cpu, module, py::mod_gil_not_used()) {
  using namespace nrc_fast;
  module.doc() = "Compiled kernels of nrc_fast for the CPU. Private: use nrc_fast.kernels.";

  // NOLINTNEXTLINE: the module keeps the class
  py::class_<Matrix>(module, "Matrix", "A strided matrix in memory that the caller keeps alive, or in a file.");
  module.def("matrix_of", &matrix_of, py::arg("array"), py::arg("dtype"));
  module.def("address_of", &address_of, py::arg("array"));
  module.def("copy_past_cache", &copy_past_cache_of, py::arg("target"), py::arg("source"), py::arg("size"));
  module.def("matrix_in_file", &matrix_in_file, py::arg("file"), py::arg("offset"), py::arg("rows"), py::arg("columns"),
             py::arg("dtype"));

  py::class_<ReadableFile>(module, "ReadableFile", "Owner of a file descriptor.")
      .def(py::init<int>(), py::arg("descriptor"))
      .def_property_readonly("descriptor", &ReadableFile::descriptor);

  module.def("kept_empty", &kept_empty, py::arg("rows"), py::arg("columns"));

  py::class_<ReadCounts>(module, "RowCounts", "What the rows of one pass were like.")
      .def_readonly("zero", &ReadCounts::zero)
      .def_readonly("nonfinite", &ReadCounts::nonfinite)
      .def_readonly("first_nonfinite", &ReadCounts::first_nonfinite)
      .def_readonly("first_unread", &ReadCounts::first_unread)
      .def_readonly("read_error", &ReadCounts::read_error);

  py::class_<GramCounts>(module, "GramCounts", "What the rows of a Gram pass were like, and the sums of their squares.")
      .def_property_readonly("are_usable", &GramCounts::are_usable)
      .def_property_readonly("zero_rows", [](const GramCounts& counts) { return counts.features.zero; })
      .def_readonly("features", &GramCounts::features)
      .def_readonly("targets", &GramCounts::targets)
      .def_readonly("energy", &GramCounts::energy)
      .def_readonly("target_energy", &GramCounts::target_energy)
      .def_readonly("has_finite_sums", &GramCounts::has_finite_sums);

  py::class_<BasisJob>(module, "ResidualJob", "One basis of a residual pass, and where its sums go.")
      .def(py::init(&make_basis_job), py::arg("basis"), py::arg("vectors"), py::arg("raw_sums"), py::arg("unit_sums"),
           py::arg("shift") = 0, py::arg("row_residuals") = 0, py::arg("row_energies") = 0, py::arg("expanded") = 0,
           py::arg("imaged") = 0, py::arg("images") = std::tuple<Address, Address, Address>{});

  // NOLINTNEXTLINE: the module keeps the class
  py::class_<Prediction>(module, "Prediction", "A linear model of the features, and where the sums of its errors go.")
      .def(py::init(&make_prediction), py::arg("weights"), py::arg("bias"), py::arg("targets"), py::arg("errors"),
           py::arg("scale") = 1.0, py::arg("products") = 0);

  module.def("gram", &gram_of, py::arg("rows"), py::arg("shifts"), py::arg("sums"), py::arg("onto"),
             py::arg("options"));
  module.def("residual", &residual_of, py::arg("features"), py::arg("jobs"), py::arg("double_precision") = false,
             py::arg("prediction") = nullptr);
  module.def("gram_product", &gram_product_of, py::arg("features"), py::kw_only(), py::arg("shift"), py::arg("vectors"),
             py::arg("count"), py::arg("image"), py::arg("column_sums"), py::arg("energy"));

  module.def("descent", &descent_of, py::kw_only(), py::arg("problems"), py::arg("d"), py::arg("n"), py::arg("stride"),
             py::arg("transforms"), py::arg("weights"), py::arg("biases"), py::arg("transform_velocities"),
             py::arg("weight_velocities"), py::arg("bias_velocities"), py::arg("moments"), py::arg("moment_index"),
             py::arg("rates"), py::arg("steps"), py::arg("double_precision"));

  module.def("kept_bytes", &kept_bytes);
  module.def("release_memory", &release_memory);
  module.def("release_pages", &release_pages_of, py::arg("address"), py::arg("size"));
  module.def("thread_count", &thread_count);
  module.def("set_thread_count", &set_thread_count, py::arg("count"));
  module.def("least_work", &least_work);
  module.def("set_least_work", &set_least_work, py::arg("operations"));
  module.def("supported_isas", &supported_isas);
  module.def("current_isa", [] { return std::string(current_kernels().name); });
  module.def("choose_isa", &choose_isa, py::arg("name"));
  module.def("build_config", &build_config);
}
