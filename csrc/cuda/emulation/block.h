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

#include "cuda/emulation/guarded_memory.h"
#include "cuda/emulation/machine.h"
#include "cuda/emulation/races.h"

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

// Threads that wait for one another: of a warp, with what each of them gives and where it takes something, or of the
// block.
struct Meeting {
  int members = 0;
  int arrived = 0;
  // Where the first one came from; all must come from there.
  Synchronization at = {};
  int first_thread = 0;
  const void* given[32];
  void* taken[32];
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
  Block* block = nullptr;
  int thread = 0;
  bool started = false;
  bool finished = false;
  int copy_group = 0;
  std::deque<Copy> copies;
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
  // Every thread that can runs to where it waits for others, once.
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

  // Accesses of the active thread, for races and limits of memory.
  void access(const void* address, std::int64_t bytes, AccessKind kind, const void* code);
  // Of 4, 8 or 16 bytes; those behind the valid ones become zero.
  void start_copy(void* shared, const void* global, int bytes, int valid_bytes, const void* code);
  // Copies of all groups but the last `pending` have arrived.
  void finish_copies(int pending);

  // Ends the launch with an error, from a thread of the block; does not return, and destroys nothing on its stack.
  [[noreturn]] void abandon(const std::string& message);
  // What touched a guard page ends the launch likewise.
  static void touch_guard(std::uintptr_t address);

  Dimensions index;
  const Launch launch;

 private:
  Meeting& warp() { return warps_[static_cast<std::size_t>(active()->thread / 32)]; }
  void meet(Meeting& meeting, const Synchronization& at, Work work);
  void resume(Fiber& fiber);
  void pause();
  static void enter();
  void prepare(Fiber& fiber, int thread);
  void set_order();
  void run_ahead();
  void access_cells(std::uintptr_t begin, std::uintptr_t end, const Access& now, bool is_shared);
  Access current_access(AccessKind kind, std::int64_t bytes, const void* code);
  std::string whereabouts() const;

  std::vector<Fiber> fibers_;
  Stacks stacks_;
  std::vector<Meeting> warps_;
  std::vector<std::uint32_t> warp_barriers_;
  std::uint32_t block_barriers_ = 0;
  Meeting everyone_;
  GuardedMemory shared_;
  std::unique_ptr<SharedShadow> shared_shadow_;
  GlobalShadow* global_shadow_;
  std::uint32_t number_ = 0;
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
