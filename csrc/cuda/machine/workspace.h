// Memory that the caller allocates for a pass, in pieces.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/arithmetic.h"

namespace nrc_fast::cuda {

constexpr std::int64_t workspace_alignment = 256;

// Pieces of the workspace, one after the other; without memory it only counts them.
class Workspace {
 public:
  explicit Workspace(char* memory) : memory_(memory) {}

  template <class T>
  T* take(std::int64_t count) {
    char* const piece = memory_ == nullptr ? nullptr : memory_ + used_;
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    used_ += round_up(bytes, workspace_alignment);
    return static_cast<T*>(static_cast<void*>(piece));
  }
  std::int64_t used() const { return used_; }

 private:
  char* memory_;
  std::int64_t used_ = 0;
};

inline void require_workspace(const char* memory, std::int64_t bytes, std::int64_t needed, const char* pass) {
  if (memory == nullptr || bytes < needed) {
    throw std::invalid_argument("the workspace has " + std::to_string(memory == nullptr ? 0 : bytes) + " bytes; " +
                                std::to_string(needed) + " are needed, as " + pass + "_workspace says");
  }
  if (reinterpret_cast<std::uintptr_t>(memory) % workspace_alignment != 0) {
    throw std::invalid_argument("the address of the workspace is not a multiple of " +
                                std::to_string(workspace_alignment));
  }
}

}  // namespace nrc_fast::cuda
