// Whether kernels of warpgroups run on a device: not before who asks for them has tried their instructions there.
#pragma once

#include <mutex>
#include <set>

namespace nrc_fast::cuda {

class WarpgroupChoice {
 public:
  static WarpgroupChoice& instance() {
    static WarpgroupChoice choice;
    return choice;
  }
  void set(int device, bool runs) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (runs) {
      devices_.insert(device);
    } else {
      devices_.erase(device);
    }
  }
  bool of(int device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return devices_.count(device) != 0;
  }

 private:
  std::mutex mutex_;
  std::set<int> devices_;
};

}  // namespace nrc_fast::cuda
