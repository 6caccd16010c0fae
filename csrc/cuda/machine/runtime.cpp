#include "cuda/machine/runtime.h"

#include <cuda_runtime_api.h>

#include "cuda/machine/status.h"

namespace nrc_fast::cuda {
namespace {

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, name, device), "asking the device for its limits");
  return value;
}

cudaError_t count_devices(int& count) {
  count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    count = 0;
  }
  return status;
}

}  // namespace

int device_count() {
  int count = 0;
  count_devices(count);
  return count;
}

std::string device_problem() {
  int count = 0;
  const cudaError_t status = count_devices(count);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return count == 0 ? "no CUDA-capable device is detected" : "";
}

std::string device_name(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "asking the device for its name");
  return properties.name;
}

DeviceLimits device_limits(int device) {
  return {{attribute(cudaDevAttrComputeCapabilityMajor, device), attribute(cudaDevAttrComputeCapabilityMinor, device)},
          attribute(cudaDevAttrMultiProcessorCount, device),
          attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device)};
}

int runtime_version() {
  int version = 0;
  check(cudaRuntimeGetVersion(&version), "asking the CUDA runtime for its version");
  return version;
}

int driver_version() {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return version;
}

CurrentDevice::CurrentDevice(int device) {
  check(cudaGetDevice(&previous_), "asking for the current device");
  if (previous_ == device) return;
  check(cudaSetDevice(device), "changing the current device");
  changed_ = true;
}

CurrentDevice::~CurrentDevice() {
  if (changed_) cudaSetDevice(previous_);
}

}  // namespace nrc_fast::cuda
