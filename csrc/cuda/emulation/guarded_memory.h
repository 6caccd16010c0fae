// Memory as the tests give it to the kernels: flush against a page that nobody may touch, with another one before it.
#pragma once

#include <cstdint>
#include <string>

namespace nrc_fast::cuda::emulation {

class GuardedMemory {
 public:
  // `alignment`: a power of two, at most that of a page. What lies between the pages and the memory holds 0xff, and so
  // does the memory.
  GuardedMemory(std::int64_t bytes, std::int64_t alignment);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  unsigned char* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  unsigned char* mapping_;
  std::int64_t mapped_bytes_;
  unsigned char* data_;
  std::int64_t bytes_;
};

// A guarded allocation, by its addresses.
struct GuardedExtent {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
};

// Finds the allocation that an address is of, its guard pages included; false where there is none.
bool find_guarded(std::uintptr_t address, GuardedExtent& extent);

// "8 bytes past the end of an allocation of 96 bytes", or how far before it.
std::string distance_from(const GuardedExtent& extent, std::uintptr_t address);

// Calls `caught(address)`, which must not return, where this thread touches a guard page while it lives.
class CatchesGuards {
 public:
  using Caught = void (*)(std::uintptr_t address);
  explicit CatchesGuards(Caught caught);
  ~CatchesGuards();
  CatchesGuards(const CatchesGuards&) = delete;
  CatchesGuards& operator=(const CatchesGuards&) = delete;
};

}  // namespace nrc_fast::cuda::emulation
