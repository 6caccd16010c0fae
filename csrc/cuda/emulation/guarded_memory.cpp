#include "cuda/emulation/guarded_memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>

namespace nrc_fast::cuda::emulation {
namespace {

struct Mapped {
  std::uintptr_t end;
  GuardedExtent extent;
};

// All guarded allocations, by where their mappings begin.
std::map<std::uintptr_t, Mapped>& mappings() {
  static std::map<std::uintptr_t, Mapped> all;
  return all;
}

std::mutex& lock_of_mappings() {
  static std::mutex lock;
  return lock;
}

std::uintptr_t number_of(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

std::int64_t page_bytes() {
  static const std::int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

// Handlers belong to the process: while several threads launch, the first installs ours and the last restores.
std::mutex& lock_of_handlers() {
  static std::mutex lock;
  return lock;
}
int users = 0;
struct sigaction previous[2];
constexpr int signals[2] = {SIGSEGV, SIGBUS};
thread_local CatchesGuards::Caught caught_here = nullptr;

void handle(int, siginfo_t* information, void*) {
  GuardedExtent extent;
  const std::uintptr_t address = number_of(information->si_addr);
  if (caught_here != nullptr && find_guarded(address, extent)) caught_here(address);
  // Not ours: the instruction runs again, and who was there before is asked.
  for (int i = 0; i < 2; ++i) sigaction(signals[i], &previous[i], nullptr);
}

}  // namespace

GuardedMemory::GuardedMemory(std::int64_t bytes, std::int64_t alignment) : bytes_(bytes) {
  const std::int64_t page = page_bytes();
  if (bytes < 0 || alignment < 1 || alignment > page || (alignment & (alignment - 1)) != 0) {
    throw std::invalid_argument("guarded memory of " + std::to_string(bytes) + " bytes, aligned to " +
                                std::to_string(alignment) + "; a power of two up to a page is expected");
  }
  const std::int64_t used = (bytes + alignment - 1) / alignment * alignment;
  const std::int64_t inner = (used + page - 1) / page * page;
  mapped_bytes_ = inner + 2 * page;
  void* const memory = mmap(nullptr, static_cast<std::size_t>(mapped_bytes_), PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<unsigned char*>(memory);
  data_ = mapping_ + page + inner - used;
  if (inner > 0) {
    if (mprotect(mapping_ + page, static_cast<std::size_t>(inner), PROT_READ | PROT_WRITE) != 0) {
      munmap(mapping_, static_cast<std::size_t>(mapped_bytes_));
      throw std::bad_alloc();
    }
    std::memset(mapping_ + page, 0xff, static_cast<std::size_t>(inner));
  }
  const std::lock_guard<std::mutex> held(lock_of_mappings());
  mappings()[number_of(mapping_)] = {number_of(mapping_ + mapped_bytes_), {number_of(data_), number_of(data_ + bytes)}};
}

GuardedMemory::~GuardedMemory() {
  const std::lock_guard<std::mutex> held(lock_of_mappings());
  mappings().erase(number_of(mapping_));
  munmap(mapping_, static_cast<std::size_t>(mapped_bytes_));
}

bool find_guarded(std::uintptr_t address, GuardedExtent& extent) {
  const std::lock_guard<std::mutex> held(lock_of_mappings());
  auto found = mappings().upper_bound(address);
  if (found == mappings().begin()) return false;
  --found;
  if (address >= found->second.end) return false;
  extent = found->second.extent;
  return true;
}

std::string distance_from(const GuardedExtent& extent, std::uintptr_t address) {
  const std::string size = std::to_string(extent.end - extent.begin);
  if (address < extent.begin) {
    return std::to_string(extent.begin - address) + " bytes before an allocation of " + size + " bytes";
  }
  return std::to_string(address - extent.end) + " bytes past the end of an allocation of " + size + " bytes";
}

CatchesGuards::CatchesGuards(Caught caught) {
  caught_here = caught;
  const std::lock_guard<std::mutex> held(lock_of_handlers());
  if (users++ > 0) return;
  struct sigaction ours = {};
  ours.sa_sigaction = &handle;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int i = 0; i < 2; ++i) sigaction(signals[i], &ours, &previous[i]);
}

CatchesGuards::~CatchesGuards() {
  caught_here = nullptr;
  const std::lock_guard<std::mutex> held(lock_of_handlers());
  if (--users > 0) return;
  for (int i = 0; i < 2; ++i) sigaction(signals[i], &previous[i], nullptr);
}

}  // namespace nrc_fast::cuda::emulation
