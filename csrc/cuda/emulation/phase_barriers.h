// Barriers in shared memory as the PTX ISA documents mbarrier objects: a phase is over when so many arrivals as it was
// set up for have come and as many bytes as were expected; then the next one begins. Which phase is meant is told by
// its parity alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "cuda/emulation/clocks.h"

namespace nrc_fast::cuda::emulation {

class Block;

class PhaseBarriers {
 public:
  explicit PhaseBarriers(Block& block) : block_(block) {}

  void begin() { barriers_.clear(); }

  // Of the active thread; addresses are of shared memory.
  void initialize(void* address, int arrivals);
  void arrive(const void* address, std::int64_t expected_bytes);
  void wait(const void* address, int parity);
  // Its writes to shared memory, barriers too, can then be seen by the copy engine and by products.
  void fence();

  // That the copy engine may count bytes there, and that it has done so.
  void require_usable(const void* address);
  void add_bytes(const void* address, std::int64_t bytes);

  // ", 3 threads wait for phases of parity 1 of the barrier at byte 64": those that wait, or nothing.
  std::string waiting() const;

 private:
  struct Barrier {
    std::uint64_t mark;  // what its memory holds
    int arrivals;        // of a phase
    int pending;
    std::int64_t bytes = 0;
    std::uint64_t phase = 0;
    bool is_fenced = false;
    bool is_seen = true;  // the end of the phase before
    int initializer;
    std::uint32_t set_up_at;  // barriers of the block before
    Clocks::Clock current{};
    Clocks::Clock before{};
    int waiting[2] = {0, 0};  // threads, for each parity
  };

  Barrier& at(const void* address);
  std::int64_t offset_of(const void* address) const;
  void finish_if_over(Barrier& barrier, std::int64_t offset);
  [[noreturn]] void refuse(const void* address, const std::string& what) const;

  Block& block_;
  std::map<std::int64_t, Barrier> barriers_;
};

}  // namespace nrc_fast::cuda::emulation
