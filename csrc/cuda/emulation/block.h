// The threads of a block as fibers of one host thread, which run one after the other until they wait for the others.
// What a kernel does wrong with memory that threads share shows in the orders: forward, backward, shuffled.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace nrc_fast::cuda::emulation {

// How the emulated machine behaves where the instruction set leaves a choice, and what is wrong with it.
struct Machine {
  enum class Order { forward, backward, shuffled };
  // An asynchronous copy may land at once or not before it is waited for.
  enum class Copies { early, late };
  // Deliberate faults: a test that passes with one of them tests nothing.
  enum class Fault { none, not_transposed, operands_swapped, accumulators_swapped, wait_too_short, no_barrier };

  Order order = Order::forward;
  Copies copies = Copies::late;
  Fault fault = Fault::none;
  unsigned seed = 0;
  int multiprocessors = 4;
  int capability = 90;
  std::int64_t shared_bytes = 227 * 1024;
  // Reads of eight rows by ldmatrix, and how many passes over the banks they took.
  std::int64_t matrix_reads = 0;
  std::int64_t matrix_passes = 0;
  std::int64_t launches = 0;
  // Of rows: by asynchronous copies, and by loads.
  std::int64_t copied_bytes = 0;
  std::int64_t loaded_bytes = 0;
};

inline Machine& machine() {
  static Machine instance;
  return instance;
}

struct Dimensions {
  std::int64_t x = 0;
  std::int64_t y = 0;
  std::int64_t z = 0;
};

struct Copy {
  void* target;
  unsigned char bytes[16];
  int size;
  int group;
};

struct Meeting;

struct Fiber {
  ucontext_t beginning;  // of its stack; from then on it goes on at `place`, which needs no system call
  jmp_buf place;
  std::unique_ptr<char[]> stack;
  bool started = false;
  const Meeting* awaited = nullptr;
  int thread = 0;
  bool finished = false;
  int copy_group = 0;
  std::deque<Copy> copies;
};

constexpr int exchange_bytes = 64;

// Threads that wait for one another: of a warp, with what each of them brings and takes away, or of the block.
struct Meeting {
  int members = 0;
  int arrived = 0;
  alignas(16) unsigned char given[32][exchange_bytes];
  alignas(16) unsigned char taken[32][exchange_bytes];
};

class Block {
 public:
  static Block*& current() {
    static thread_local Block* instance = nullptr;
    return instance;
  }

  Block(int threads, std::int64_t shared_bytes)
      : fibers_(static_cast<std::size_t>(threads)), warps_(static_cast<std::size_t>((threads + 31) / 32)) {
    if (shared_bytes > machine().shared_bytes) {
      throw std::runtime_error("the kernel wants " + std::to_string(shared_bytes) + " bytes of shared memory, " +
                               std::to_string(machine().shared_bytes) + " are there");
    }
    // Nothing may rely on what shared memory holds: NaN in every format.
    shared_.reset(
        static_cast<unsigned char*>(std::aligned_alloc(128, static_cast<std::size_t>(shared_bytes + 256) / 128 * 128)));
    shared_bytes_ = shared_bytes;
    for (Fiber& fiber : fibers_) fiber.stack.reset(new char[stack_bytes]);
  }

  template <class Run>
  void run(Dimensions index, Dimensions grid, const Run& kernel) {
    block_index = index;
    grid_size = grid;
    std::memset(shared_.get(), 0xff, static_cast<std::size_t>(shared_bytes_));
    current() = this;
    start_ = [](void* body) { (*static_cast<const Run*>(body))(); };
    body_ = const_cast<void*>(static_cast<const void*>(&kernel));
    std::vector<std::size_t> order = running_order(index);
    for (std::size_t t = 0; t < fibers_.size(); ++t) prepare(fibers_[t], static_cast<int>(t));
    for (std::size_t w = 0; w < warps_.size(); ++w) {
      warps_[w].members = std::min<int>(32, static_cast<int>(fibers_.size() - 32 * w));
      warps_[w].arrived = 0;
    }
    everyone_.members = static_cast<int>(fibers_.size());
    everyone_.arrived = 0;
    unfinished_ = fibers_.size();
    while (unfinished_ > 0) {
      progress_ = false;
      for (const std::size_t t : order) {
        if (fibers_[t].finished || fibers_[t].awaited != nullptr) continue;
        resume(fibers_[t]);
        if (error_) std::rethrow_exception(error_);
      }
      if (!progress_) throw std::runtime_error("threads of a block wait for threads that never come");
    }
    current() = nullptr;
  }

  int thread() const { return active_->thread; }
  Fiber& fiber() { return *active_; }
  unsigned char* shared() { return shared_.get(); }

  // Checks that an address is in shared memory and aligned to so many bytes.
  std::int64_t shared_offset(const void* address, std::int64_t bytes) const {
    const std::int64_t offset = static_cast<const unsigned char*>(address) - shared_.get();
    if (offset < 0 || offset + bytes > shared_bytes_ || offset % bytes != 0) {
      throw std::runtime_error("address " + std::to_string(offset) + " is not a place for " + std::to_string(bytes) +
                               " bytes in shared memory");
    }
    return offset;
  }

  void synchronize() {
    meet(everyone_, [] {});
  }

  // Every lane of the warp gives something; when all have, `work(given, taken)` runs once.
  template <class Taken, class Given, class Work>
  Taken exchange(const Given& given, const Work& work) {
    static_assert(sizeof(Given) <= exchange_bytes && sizeof(Taken) <= exchange_bytes);
    Meeting& warp = warps_[static_cast<std::size_t>(thread() / 32)];
    const int lane = thread() % 32;
    std::memcpy(warp.given[lane], &given, sizeof(Given));
    meet(warp, [&] {
      Given all_given[32];
      Taken all_taken[32];
      for (int l = 0; l < 32; ++l) std::memcpy(&all_given[l], warp.given[l], sizeof(Given));
      work(all_given, all_taken);
      for (int l = 0; l < 32; ++l) std::memcpy(warp.taken[l], &all_taken[l], sizeof(Taken));
    });
    Taken taken;
    std::memcpy(&taken, warp.taken[lane], sizeof(Taken));
    return taken;
  }

  Dimensions block_index;
  Dimensions grid_size;

 private:
  static constexpr std::size_t stack_bytes = 64 * 1024;

  template <class Work>
  void meet(Meeting& meeting, const Work& work) {
    if (++meeting.arrived == meeting.members) {
      work();
      meeting.arrived = 0;
      for (Fiber& fiber : fibers_) {
        if (fiber.awaited == &meeting) fiber.awaited = nullptr;
      }
      progress_ = true;
      return;
    }
    active_->awaited = &meeting;
    pause();
  }

  void resume(Fiber& fiber) {
    active_ = &fiber;
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.beginning);
  }

  void pause() {
    if (_setjmp(active_->place) == 0) _longjmp(scheduler_, 1);
  }

  static void enter() {
    Block& block = *current();
    try {
      block.start_(block.body_);
    } catch (...) {
      block.error_ = std::current_exception();
    }
    block.active_->finished = true;
    block.progress_ = true;
    --block.unfinished_;
    _longjmp(block.scheduler_, 1);
  }

  void prepare(Fiber& fiber, int thread) {
    fiber.thread = thread;
    fiber.started = false;
    fiber.finished = false;
    fiber.awaited = nullptr;
    fiber.copy_group = 0;
    fiber.copies.clear();
    getcontext(&fiber.beginning);
    fiber.beginning.uc_stack.ss_sp = fiber.stack.get();
    fiber.beginning.uc_stack.ss_size = stack_bytes;
    fiber.beginning.uc_link = nullptr;
    makecontext(&fiber.beginning, &Block::enter, 0);
  }

  std::vector<std::size_t> running_order(Dimensions index) const {
    std::vector<std::size_t> order(fibers_.size());
    for (std::size_t t = 0; t < order.size(); ++t) {
      order[t] = machine().order == Machine::Order::backward ? order.size() - 1 - t : t;
    }
    if (machine().order == Machine::Order::shuffled) {
      std::mt19937 random(machine().seed + static_cast<unsigned>(index.x));
      for (std::size_t t = order.size(); t > 1; --t) std::swap(order[t - 1], order[random() % t]);
    }
    return order;
  }

  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };

  std::vector<Fiber> fibers_;
  std::vector<Meeting> warps_;
  Meeting everyone_;
  std::unique_ptr<unsigned char, Free> shared_;
  std::int64_t shared_bytes_ = 0;
  jmp_buf scheduler_;
  Fiber* active_ = nullptr;
  std::size_t unfinished_ = 0;
  bool progress_ = false;
  std::exception_ptr error_;
  void (*start_)(void*) = nullptr;
  void* body_ = nullptr;
};

}  // namespace nrc_fast::cuda::emulation
