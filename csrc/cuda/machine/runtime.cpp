#include "cuda/machine/runtime.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "cuda/machine/status.h"
#include "cuda/machine/warpgroup_choice.h"

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

DeviceLimits ask_limits(int device) {
  return {{attribute(cudaDevAttrComputeCapabilityMajor, device), attribute(cudaDevAttrComputeCapabilityMinor, device)},
          attribute(cudaDevAttrMultiProcessorCount, device),
          attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device)};
}

std::string ask_name(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "asking the device for its name");
  return properties.name;
}

// What was found out of each device; a question that fails is asked again.
template <class Answer>
class Known {
 public:
  template <class Ask>
  Answer of(int device, const Ask& ask) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = answers_.find(device);
    return found != answers_.end() ? found->second : answers_.emplace(device, ask(device)).first->second;
  }

 private:
  std::mutex mutex_;
  std::map<int, Answer> answers_;
};

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
  static Known<std::string> names;
  return names.of(device, ask_name);
}

DeviceLimits device_limits(int device) {
  static Known<DeviceLimits> limits;
  DeviceLimits found = limits.of(device, ask_limits);
  found.runs_warpgroups = WarpgroupChoice::instance().of(device);
  return found;
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

void allow_shared_memory(const void* kernel, std::int64_t bytes, const char* name) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, std::int64_t> allowed;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the current device");
  const std::lock_guard<std::mutex> lock(mutex);
  std::int64_t& most = allowed[{kernel, device}];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), name);
  most = bytes;
}

std::string register_host_memory(void* memory, std::int64_t bytes, int device) {
  const CurrentDevice current(device);
  const cudaError_t status = cudaHostRegister(memory, static_cast<std::size_t>(bytes), cudaHostRegisterDefault);
  if (status == cudaSuccess) return "";
  cudaGetLastError();  // or the next launch would find it
  return std::string(cudaGetErrorName(status)) + ", " + cudaGetErrorString(status);
}

void unregister_host_memory(void* memory, int device) {
  const CurrentDevice current(device);
  check(cudaHostUnregister(memory), "giving registered memory of the host back");
}

}  // namespace nrc_fast::cuda
