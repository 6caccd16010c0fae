// The current device of a thread, by the driver's stack of contexts. cudaSetDevice, with which the one before would
// have to be restored, creates a context on the device that it names: on a card that nobody uses, some hundred
// megabytes.
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "cuda/machine/runtime.h"
#include "cuda/machine/status.h"

namespace nrc_fast::cuda {
namespace {

// As cuda.h has them, which not every toolkit installs: 0 is success.
using Context = struct CUctx_st*;
using DriverStatus = int;

template <class Function>
Function driver_function(const char* name) {
  void* found = nullptr;
#if CUDART_VERSION >= 12050
  cudaDriverEntryPointQueryResult result;
  check(cudaGetDriverEntryPointByVersion(name, &found, 11000, cudaEnableDefault, &result), name);
#else
  check(cudaGetDriverEntryPoint(name, &found, cudaEnableDefault), name);
#endif
  if (found == nullptr) throw std::runtime_error(std::string("the CUDA driver has no ") + name);
  return reinterpret_cast<Function>(found);
}

void check_driver(DriverStatus status, const char* what) {
  if (status == 0) return;
  throw std::runtime_error(std::string(what) + ": the CUDA driver says error " + std::to_string(status));
}

// Asked for at the first launch; the driver is not linked, so that the module loads where there is none.
struct Driver {
  DriverStatus (*get_current)(Context*) = driver_function<DriverStatus (*)(Context*)>("cuCtxGetCurrent");
  DriverStatus (*push)(Context) = driver_function<DriverStatus (*)(Context)>("cuCtxPushCurrent");
  DriverStatus (*pop)(Context*) = driver_function<DriverStatus (*)(Context*)>("cuCtxPopCurrent");
  DriverStatus (*get_device)(int*, int) = driver_function<DriverStatus (*)(int*, int)>("cuDeviceGet");
  DriverStatus (*retain)(Context*, int) = driver_function<DriverStatus (*)(Context*, int)>("cuDevicePrimaryCtxRetain");
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

// The context that the CUDA runtime, and so torch, uses on a device; it is retained once and kept until the process
// ends.
Context primary_context(int device) {
  static std::mutex mutex;
  static std::map<int, Context> retained;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = retained.find(device);
  if (found != retained.end()) return found->second;
  int handle = 0;
  Context context = nullptr;
  check_driver(driver().get_device(&handle, device), "asking for a device by its number");
  check_driver(driver().retain(&context, handle), "asking for the context of a device");
  return retained.emplace(device, context).first->second;
}

}  // namespace

CurrentDevice::CurrentDevice(int device) {
  Context const wanted = primary_context(device);
  Context current = nullptr;
  check_driver(driver().get_current(&current), "asking for the current context");
  if (current == wanted) return;
  check_driver(driver().push(wanted), "changing the current device");
  is_pushed_ = true;
}

CurrentDevice::~CurrentDevice() {
  Context popped = nullptr;
  if (is_pushed_) driver().pop(&popped);
}

}  // namespace nrc_fast::cuda
