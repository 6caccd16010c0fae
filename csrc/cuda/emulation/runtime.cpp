// The emulated device as the launches see it.
#include "cuda/machine/runtime.h"

#include <stdexcept>

#include "cuda/emulation/machine.h"
#include "cuda/machine/warpgroup_choice.h"

namespace nrc_fast::cuda {

int device_count() { return 1; }
std::string device_problem() { return ""; }
std::string device_name(int) { return "emulation"; }

DeviceLimits device_limits(int device) {
  if (device != 0) throw std::runtime_error("the emulation has one device, 0; not " + std::to_string(device));
  const emulation::Machine& machine = emulation::machine();
  const emulation::CardLimits& card = emulation::card_limits(machine.capability);
  return {{machine.capability / 10, machine.capability % 10},
          machine.multiprocessors,
          card.shared_per_block,
          card.shared_per_multiprocessor,
          WarpgroupChoice::instance().of(device)};
}

int runtime_version() { return 0; }
int driver_version() { return 0; }

std::string register_host_memory(void*, std::int64_t, int) { return ""; }
void unregister_host_memory(void*, int) {}

CurrentDevice::CurrentDevice(int) {}
CurrentDevice::~CurrentDevice() = default;

}  // namespace nrc_fast::cuda
