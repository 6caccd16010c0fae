// The functions of nrc_fast.kernels._cuda, which the emulation of the tests exports too.
#pragma once

#include <pybind11/pybind11.h>

namespace nrc_fast::cuda {

void bind_kernels(pybind11::module_& module);
void bind_probes(pybind11::module_& module);

}  // namespace nrc_fast::cuda
