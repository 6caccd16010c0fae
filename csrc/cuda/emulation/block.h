// The threads of a block as fibers of one host thread, which run one after the other until they wait for the others.
// What a kernel does wrong with memory that threads share shows in the orders, and where races are looked for.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "cuda/emulation/box_copies.h"
#include "cuda/emulation/clocks.h"
#include "cuda/emulation/guarded_memory.h"
#include "cuda/emulation/machine.h"
#include "cuda/emulation/phase_barriers.h"
#include "cuda/emulation/races.h"
#include "cuda/emulation/warpgroup_products.h"

// Of functions of the emulation that are compiled with the kernels: their accesses are none of a device.
#define NRC_FAST_UNCHECKED __attribute__((no_sanitize("thread")))

namespace nrc_fast::cuda::emulation {

struct Copy {
  static constexpr int most_bytes = 16;

  unsigned char* target;
  unsigned char values[most_bytes];
  int bytes;
  int group;
};

// Threads that wait for one another: of a warp or a warpgroup, with what each of them gives and where it takes
// something, or of the block.
struct Meeting {
  static constexpr int most_givers = 128;

  const char* of = "block";
  int first_member = 0;
  int members = 0;
  int arrived = 0;
  // Where the first one came from; all must come from there.
  Synchronization at = {};
  int first_thread = 0;
  const void* given[most_givers];
  void* taken[most_givers];
};

// Memory for the stacks of fibers, which the next block of this thread of the system gets again: fresh pages take time.
class Stacks {
 public:
  explicit Stacks(std::size_t count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  char* of(std::size_t fiber) const;
  bool contain(std::uintptr_t address) const;

 private:
  std::unique_ptr<char[]> memory_;
  std::size_t bytes_;
};

class Block;

struct Fiber {
  ucontext_t beginning;  // of its stack; from then on it goes on at `place`, which needs no system call
  jmp_buf place;
  const Meeting* awaited = nullptr;
  std::int64_t awaited_barrier = -1;  // in shared memory, and the phase there
  int awaited_parity = 0;
  Block* block = nullptr;
  int thread = 0;
  bool started = false;
  bool finished = false;
  int copy_group = 0;
  std::uint32_t fences = 0;  // of writes to shared memory
  std::deque<Copy> copies;

  bool can_run() const { return !finished && awaited == nullptr && awaited_barrier < 0; }
};

class Block {
 public:
  // The thread that runs now; null between launches.
  NRC_FAST_UNCHECKED static Fiber*& active() {
    static thread_local Fiber* fiber = nullptr;
    return fiber;
  }

  Block(const Launch& launch, GlobalShadow* global);

  void begin(Dimensions index, void (*kernel)(const void*), const void* call);
  bool is_finished() const { return unfinished_ == 0; }
  // Every thread that can runs to where it waits for others, once; where none can, a copy of a box lands.
  void advance();

  unsigned char* shared() const { return shared_.data(); }
  // Checks that an address is in shared memory and that `bytes` divide it.
  std::int64_t shared_offset(const void* address, std::int64_t bytes) const;

  // All threads of the block, or lanes of the warp, come to the same place. What happened before is seen after it.
  void synchronize(const Synchronization& at);
  void synchronize_warp(const Synchronization& at);
  // Every lane of the warp gives something; when all have, `work` makes of these what they take. Orders no memory.
  using Work = void (*)(Block& block, Meeting& warp);
  void exchange(const Synchronization& at, const void* given, void* taken, Work work);
  // The same of a warpgroup.
  void exchange_in_warpgroup(const Synchronization& at, const void* given, void* taken, Work work);

  // The active thread waits until a phase of a barrier in shared memory is over, of which the barrier tells.
  void sleep(std::int64_t barrier, int parity);
  void wake(std::int64_t barrier, int parity);
  std::uint32_t barriers_passed() const { return block_barriers_; }

  // Accesses of the active thread, for races and limits of memory.
  void access(const void* address, std::int64_t bytes, AccessKind kind, const void* code);
  // Those of the copy engine and of products, for a thread: what threads wrote before must have been fenced by them.
  void access_for(int thread, const void* address, std::int64_t bytes, AccessKind kind, const void* code);
  // What the copy engine has written is there.
  void land(const void* shared, std::int64_t bytes);
  bool finds_races() const { return global_shadow_ != nullptr; }
  // Of 4, 8 or 16 bytes; those behind the valid ones become zero.
  void start_copy(void* shared, const void* global, int bytes, int valid_bytes, const void* code);
  // Copies of all groups but the last `pending` have arrived.
  void finish_copies(int pending);

  // Ends the launch with an error, from a thread of the block; does not return, and destroys nothing on its stack.
  [[noreturn]] void abandon(const std::string& message);
  // What touched a guard page ends the launch likewise.
  static void touch_guard(std::uintptr_t address);

  // Where shared memory lies in the addresses of its window, as descriptors have them: not where kernels might hope.
  std::uint32_t window() const { return window_; }

  Dimensions index;
  const Launch launch;
  Clocks clocks;
  PhaseBarriers barriers;
  BoxCopies boxes;
  WarpgroupProducts products;

 private:
  Meeting& warp() { return warps_[static_cast<std::size_t>(active()->thread / 32)]; }
  void meet(Meeting& meeting, const Synchronization& at, Work work);
  void resume(Fiber& fiber);
  void pause();
  static void enter();
  void prepare(Fiber& fiber, int thread);
  void set_order();
  void run_ahead();
  void access_at(const void* address, std::int64_t bytes, const Access& now, bool is_asynchronous);
  void access_cells(std::uintptr_t begin, std::uintptr_t end, const Access& now, bool is_shared, bool is_asynchronous);
  Access access_of(int thread, AccessKind kind, std::int64_t bytes, const void* code) const;
  std::string whereabouts() const;

  std::vector<Fiber> fibers_;
  Stacks stacks_;
  std::vector<Meeting> warps_;
  std::vector<Meeting> warpgroups_;
  std::vector<std::uint32_t> warp_barriers_;
  std::uint32_t block_barriers_ = 0;
  Meeting everyone_;
  GuardedMemory shared_;
  std::unique_ptr<SharedShadow> shared_shadow_;
  GlobalShadow* global_shadow_;
  std::uint32_t number_ = 0;
  std::uint32_t window_;
  std::vector<std::size_t> order_;
  jmp_buf scheduler_;
  std::size_t unfinished_ = 0;
  bool progress_ = false;
  std::exception_ptr error_;
  void (*kernel_)(const void*) = nullptr;
  const void* call_ = nullptr;
};

// Runs all blocks of a launch, in the order and as many at once as the machine says.
void run_launch(const Launch& launch, void (*kernel)(const void*), const void* call);

}  // namespace nrc_fast::cuda::emulation
