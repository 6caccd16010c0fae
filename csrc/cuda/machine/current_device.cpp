// The current device of a thread, by the driver's stack of contexts. cudaSetDevice, with which the one before would
// have to be restored, creates a context on the device that it names: on a card that nobody uses, some hundred
// megabytes.
#include <map>
#include <mutex>

#include "cuda/machine/driver.h"
#include "cuda/machine/runtime.h"

namespace nrc_fast::cuda {
namespace {

using Context = struct CUctx_st*;  // as cuda.h has it
constexpr int first_version = 11000;

// Asked for at the first launch.
struct Driver {
  DriverStatus (*get_current)(Context*) = driver_function<DriverStatus (*)(Context*)>("cuCtxGetCurrent", first_version);
  DriverStatus (*push)(Context) = driver_function<DriverStatus (*)(Context)>("cuCtxPushCurrent", first_version);
  DriverStatus (*pop)(Context*) = driver_function<DriverStatus (*)(Context*)>("cuCtxPopCurrent", first_version);
  DriverStatus (*get_device)(int*, int) = driver_function<DriverStatus (*)(int*, int)>("cuDeviceGet", first_version);
  DriverStatus (*retain)(Context*, int) = driver_function<DriverStatus (*)(Context*, int)>("cuDevicePrimaryCtxRetain",
                                                                                           first_version);
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
