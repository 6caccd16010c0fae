// The CUDA runtime as the launches see it: devices, and its errors as exceptions. The host emulation of the tests
// has an implementation of its own.
#pragma once

#include <cstdint>
#include <string>

namespace nrc_fast::cuda {

struct Capability {
  int major;
  int minor;
};

// What the launches ask of a device.
struct DeviceLimits {
  Capability capability;
  int multiprocessors;
  std::int64_t shared_memory_per_block;  // bytes, with the raised limit
  std::int64_t shared_memory_per_multiprocessor;
  bool runs_warpgroups = false;  // see warpgroup_choice.h
};

// ---- questions: none of them creates a context on a device, which takes some hundred megabytes of its memory ----

// 0 where there is no driver or no card.
int device_count();
// Why device_count is 0, in the words of the runtime; empty otherwise.
std::string device_problem();
// The runtime, which takes milliseconds, is asked once for each device.
std::string device_name(int device);
DeviceLimits device_limits(int device);

int runtime_version();
// 0 without a driver.
int driver_version();

// ---- state of launches ----

// Lets launches of a kernel on the current device take so many bytes of shared memory. What one launch was allowed
// stays allowed: another thread may be about to launch the same kernel with more than this one needs.
void allow_shared_memory(const void* kernel, std::int64_t bytes, const char* name);

// Registers memory of the host, so that copies to devices go on from it by themselves. Empty, or why it cannot be
// registered: copies from it are right then too, and slower.
std::string register_host_memory(void* memory, std::int64_t bytes, int device);
void unregister_host_memory(void* memory, int device);

// Makes a device the current one of this thread for as long as it lives, and leaves no trace on others.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  [[maybe_unused]] bool is_pushed_ = false;  // the emulated device does not use it
};

}  // namespace nrc_fast::cuda
