// The functions of nrc_fast.kernels._cuda, which the emulation of the tests exports too.
#pragma once

#include <pybind11/pybind11.h>

#include "common/addresses.h"
#include "cuda/machine/device.h"

namespace nrc_fast::cuda {

inline Stream stream_of(Address address) {
  return reinterpret_cast<Stream>(address);  // NOLINT: torch's number of a stream is its address
}

void bind_kernels(pybind11::module_& module);
void bind_probes(pybind11::module_& module);

}  // namespace nrc_fast::cuda
