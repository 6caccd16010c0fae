#include "cuda/emulation/phase_barriers.h"

#include <cstring>
#include <stdexcept>

#include "cuda/emulation/block.h"

namespace nrc_fast::cuda::emulation {
namespace {

constexpr std::int64_t most = (1 << 20) - 1;  // arrivals, and bytes either way

}  // namespace

std::int64_t PhaseBarriers::offset_of(const void* address) const { return block_.shared_offset(address, 8); }

void PhaseBarriers::refuse(const void* address, const std::string& what) const {
  throw std::runtime_error(std::string(block_.launch.name) + ": the barrier at byte " +
                           std::to_string(offset_of(address)) + " of shared memory " + what);
}

void PhaseBarriers::initialize(void* address, int arrivals) {
  const std::int64_t offset = offset_of(address);
  if (arrivals < 1 || arrivals > most) refuse(address, "is set up for " + std::to_string(arrivals) + " arrivals");
  if (barriers_.count(offset) != 0) refuse(address, "is set up twice");
  if (block_.finds_races()) block_.clocks.start();
  const std::uint64_t mark = 0x6d62617272696572u ^ static_cast<std::uint64_t>(offset) << 32;
  std::memcpy(address, &mark, sizeof(mark));
  Barrier barrier{};
  barrier.mark = mark;
  barrier.arrivals = barrier.pending = arrivals;
  barrier.is_seen = true;
  barrier.initializer = Block::active()->thread;
  barrier.set_up_at = block_.barriers_passed();
  barriers_.emplace(offset, barrier);
}

PhaseBarriers::Barrier& PhaseBarriers::at(const void* address) {
  const auto found = barriers_.find(offset_of(address));
  if (found == barriers_.end()) refuse(address, "is used before it is set up");
  if (std::memcmp(address, &found->second.mark, 8) != 0) refuse(address, "was written to");
  const int thread = Block::active()->thread;
  Barrier& barrier = found->second;
  if (thread != barrier.initializer && barrier.set_up_at == block_.barriers_passed()) {
    refuse(address, "is used by thread " + std::to_string(thread) + ", which has met thread " +
                        std::to_string(barrier.initializer) + " at no barrier of the block since that has set it up");
  }
  return barrier;
}

void PhaseBarriers::fence() {
  const int thread = Block::active()->thread;
  for (auto& [offset, barrier] : barriers_) barrier.is_fenced |= barrier.initializer == thread;
  ++Block::active()->fences;
}

void PhaseBarriers::arrive(const void* address, std::int64_t expected_bytes) {
  Barrier& barrier = at(address);
  if (!barrier.is_seen) refuse(address, "is arrived at before anybody has seen the end of the phase before");
  if (barrier.pending == 0) refuse(address, "has more arrivals in a phase than it was set up for");
  barrier.bytes += expected_bytes;
  if (barrier.bytes > most) refuse(address, "expects more than 2^20 - 1 bytes");
  block_.clocks.release(Block::active()->thread, barrier.current);
  --barrier.pending;
  finish_if_over(barrier, offset_of(address));
}

void PhaseBarriers::require_usable(const void* address) {
  if (!at(address).is_fenced) {
    refuse(address, "is given to the copy engine, and the thread that set it up has fenced no writes since");
  }
}

void PhaseBarriers::add_bytes(const void* address, std::int64_t bytes) {
  Barrier& barrier = barriers_.at(offset_of(address));
  barrier.bytes -= bytes;
  if (barrier.bytes < -most) refuse(address, "has got more than 2^20 - 1 bytes that nobody expects");
  block_.clocks.release(Clocks::copy_engine, barrier.current);
  finish_if_over(barrier, offset_of(address));
}

void PhaseBarriers::finish_if_over(Barrier& barrier, std::int64_t offset) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  const auto parity = static_cast<int>(barrier.phase & 1);
  ++barrier.phase;
  barrier.pending = barrier.arrivals;
  barrier.before = barrier.current;
  barrier.is_seen = barrier.waiting[parity] > 0;
  barrier.waiting[parity] = 0;
  block_.wake(offset, parity);
}

void PhaseBarriers::wait(const void* address, int parity) {
  if (parity != 0 && parity != 1) refuse(address, "is waited for with a parity that is not 0 or 1");
  Barrier& barrier = at(address);
  if (static_cast<int>(barrier.phase & 1) == parity) {
    ++barrier.waiting[parity];
    block_.sleep(offset_of(address), parity);
  } else if (barrier.phase > 0) {
    barrier.is_seen = true;
  }
  block_.clocks.acquire(Block::active()->thread, barrier.before);
}

std::string PhaseBarriers::waiting() const {
  std::string text;
  for (const auto& [offset, barrier] : barriers_) {
    for (int parity = 0; parity < 2; ++parity) {
      if (barrier.waiting[parity] == 0) continue;
      text += " " + std::to_string(barrier.waiting[parity]) + " wait for the end of a phase of parity " +
              std::to_string(parity) + " of the barrier at byte " + std::to_string(offset) +
              " of shared memory, which " + std::to_string(barrier.pending) + " arrivals and " +
              std::to_string(barrier.bytes) + " bytes lack;";
    }
  }
  return text;
}

}  // namespace nrc_fast::cuda::emulation
