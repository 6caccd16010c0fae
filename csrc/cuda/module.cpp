// nrc_fast.kernels._cuda.
#include "cuda/bindings.h"

PYBIND11_MODULE(_cuda, module, pybind11::mod_gil_not_used()) {
  module.doc() = "Compiled kernels of nrc_fast for CUDA devices. Private.";
  nrc_fast::cuda::bind_kernels(module);
  nrc_fast::cuda::bind_probes(module);
}
