// Parts of the modules of the emulated device that have files of their own.
#pragma once

#include <pybind11/pybind11.h>

namespace nrc_fast::cuda {

void bind_warpgroup_maths(pybind11::module_& module);

}  // namespace nrc_fast::cuda
