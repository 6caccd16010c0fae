// What launches leave behind on made-up cards: a line for each look, which test_launch_state.py compares.
#include <iostream>
#include <stdexcept>
#include <thread>

#include "cuda/machine/current_device.cpp"
#include "cuda/machine/runtime.cpp"

using namespace nrc_fast::cuda;

namespace {

const char kernel_a = 0;
const char kernel_b = 0;

int current() {
  int device = -1;
  cudaGetDevice(&device);
  return device;
}

void say(const std::string& title) {
  std::cout << title << ": current " << current() << ", contexts";
  for (const int device : stand_in::state().created) std::cout << " " << device;
  std::cout << "\n";
}

int allowed(const void* kernel, int device) { return stand_in::state().shared_bytes[{kernel, device}]; }

void contexts() {
  say("at first");
  device_count();
  device_problem();
  device_name(0);
  device_name(1);
  device_limits(0);
  device_limits(1);
  runtime_version();
  driver_version();
  say("after questions");
  stand_in::create(1);  // as torch does for a tensor
  {
    const CurrentDevice device(1);
    say("at a launch");
    {
      const CurrentDevice same(1);
      say("inside");
    }
    say("still");
  }
  say("afterwards");
  std::thread([] {
    const CurrentDevice device(1);
    say("in a thread");
  }).join();
  cudaSetDevice(0);  // as a user does
  {
    const CurrentDevice device(1);
    say("while the other is used");
  }
  say("and back");
  try {
    const CurrentDevice device(7);
  } catch (const std::runtime_error& error) {
    std::cout << error.what() << "\n";
  }
  say("after an error");
}

void shared_memory() {
  allow_shared_memory(&kernel_a, 100000, "a");
  allow_shared_memory(&kernel_b, 50000, "b");
  allow_shared_memory(&kernel_a, 60000, "a");
  std::cout << allowed(&kernel_a, 0) << " " << allowed(&kernel_b, 0) << " " << allowed(&kernel_a, 1) << "\n";
  {
    const CurrentDevice device(1);
    allow_shared_memory(&kernel_a, 60000, "a");
  }
  std::cout << allowed(&kernel_a, 0) << " " << allowed(&kernel_a, 1) << "\n";
  // Each thread finds room for its own launch, whatever the others need.
  int refused[4] = {};
  std::thread threads[4];
  for (int t = 0; t < 4; ++t) {
    threads[t] = std::thread([t, &refused] {
      for (int step = 0; step < 2000; ++step) {
        const int bytes = 100000 + 1000 * (step + 500 * t) % 60000;
        allow_shared_memory(&kernel_a, bytes, "a");
        const std::lock_guard<std::mutex> lock(stand_in::state().mutex);
        refused[t] += allowed(&kernel_a, 0) < bytes;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::cout << refused[0] + refused[1] + refused[2] + refused[3] << " launches refused\n";
}

void questions() {
  for (int update = 0; update < 5; ++update) {
    for (int device = 0; device < 2; ++device) {
      const DeviceLimits limits = device_limits(device);
      if (update > 0) continue;
      std::cout << device_name(device) << " " << limits.capability.major << " " << limits.capability.minor << " "
                << limits.multiprocessors << " " << limits.shared_memory_per_block << " "
                << limits.shared_memory_per_multiprocessor << "\n";
    }
    device_name(update % 2);
  }
  for (int twice = 0; twice < 2; ++twice) {
    try {
      device_name(2);
    } catch (const std::runtime_error& error) {
      std::cout << error.what() << "\n";
    }
  }
  std::cout << stand_in::state().calls["properties"] << " properties, " << stand_in::state().calls["attribute"]
            << " attributes\n";
}

void host_memory() {
  char memory[64];
  std::cout << "[" << register_host_memory(memory, 64, 1) << "] " << stand_in::state().registered << "\n";
  unregister_host_memory(memory, 1);
  std::cout << stand_in::state().registered << "\n";
  stand_in::state().can_register = false;
  std::cout << "[" << register_host_memory(memory, 64, 1) << "] " << stand_in::state().registered << "\n";
  std::cout << "last error " << cudaGetLastError() << "\n";
  say("afterwards");
}

}  // namespace

int main(int, char** arguments) {
  const std::string wanted = arguments[1];
  if (wanted == "contexts") contexts();
  if (wanted == "shared_memory") shared_memory();
  if (wanted == "questions") questions();
  if (wanted == "host_memory") host_memory();
}
