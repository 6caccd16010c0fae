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
};

// 0 where there is no driver or no card.
int device_count();
// Why device_count is 0, in the words of the runtime; empty otherwise.
std::string device_problem();
std::string device_name(int device);
DeviceLimits device_limits(int device);

int runtime_version();
// 0 without a driver.
int driver_version();

// Makes a device the current one of this thread for as long as it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  // The emulated device uses neither.
  [[maybe_unused]] int previous_ = 0;
  [[maybe_unused]] bool changed_ = false;
};

}  // namespace nrc_fast::cuda
