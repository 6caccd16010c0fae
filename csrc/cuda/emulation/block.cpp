#include "cuda/emulation/block.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <utility>

namespace nrc_fast::cuda::emulation {
namespace {

constexpr std::size_t stack_bytes = 64 * 1024;

std::string described(const Synchronization& at) { return std::string(at.name) + " (" + described(at.place) + ")"; }

bool is_same(const Synchronization& at, const Synchronization& other) {
  // In one source the texts are in one place.
  if (at.name == other.name && at.place.file == other.place.file) return at.place.line == other.place.line;
  return std::strcmp(at.name, other.name) == 0 && is_same(at.place, other.place);
}

template <class T>
void shuffle(std::vector<T>& values, unsigned seed) {
  std::mt19937 random(seed);
  for (std::size_t t = values.size(); t > 1; --t) std::swap(values[t - 1], values[random() % t]);
}

struct SpareStacks {
  std::unique_ptr<char[]> memory;
  std::size_t bytes = 0;
};

SpareStacks& spare_stacks() {
  static thread_local SpareStacks spare;
  return spare;
}

}  // namespace

Stacks::Stacks(std::size_t count) : bytes_(stack_bytes * count) {
  SpareStacks& spare = spare_stacks();
  if (spare.bytes >= bytes_) {
    bytes_ = std::exchange(spare.bytes, 0);
    memory_ = std::move(spare.memory);
  } else {
    memory_.reset(new char[bytes_]);
  }
}

Stacks::~Stacks() {
  if (spare_stacks().bytes < bytes_) spare_stacks() = {std::move(memory_), bytes_};
}

char* Stacks::of(std::size_t fiber) const { return memory_.get() + fiber * stack_bytes; }

bool Stacks::contain(std::uintptr_t address) const {
  return address - reinterpret_cast<std::uintptr_t>(memory_.get()) < bytes_;
}

Block::Block(const Launch& of, GlobalShadow* global)
    : launch(of),
      barriers(*this),
      boxes(*this),
      products(*this),
      fibers_(static_cast<std::size_t>(of.threads)),
      stacks_(fibers_.size()),
      warps_((fibers_.size() + 31) / 32),
      warpgroups_(fibers_.size() / Meeting::most_givers),
      warp_barriers_(warps_.size()),
      shared_(of.shared_bytes, 16),
      global_shadow_(global),
      window_(1024 + 16 * ((machine().seed * 11 + 3) % 64)) {
  if (global != nullptr) shared_shadow_ = std::make_unique<SharedShadow>(of.shared_bytes);
}

void Block::begin(Dimensions at, void (*kernel)(const void*), const void* call) {
  index = at;
  number_ = static_cast<std::uint32_t>((at.z * launch.grid.y + at.y) * launch.grid.x + at.x);
  kernel_ = kernel;
  call_ = call;
  // Nothing may rely on what shared memory holds: NaN in every format.
  std::memset(shared(), 0xff, static_cast<std::size_t>(launch.shared_bytes));
  set_order();
  for (std::size_t t = 0; t < fibers_.size(); ++t) prepare(fibers_[t], static_cast<int>(t));
  const auto divide = [&](std::vector<Meeting>& meetings, const char* name, int size) {
    for (std::size_t m = 0; m < meetings.size(); ++m) {
      const int first = static_cast<int>(m) * size;
      meetings[m].of = name;
      meetings[m].first_member = first;
      meetings[m].members = std::min(size, static_cast<int>(fibers_.size()) - first);
      meetings[m].arrived = 0;
    }
  };
  divide(warps_, "warp", 32);
  divide(warpgroups_, "warpgroup", Meeting::most_givers);
  std::fill(warp_barriers_.begin(), warp_barriers_.end(), 0u);
  clocks.begin(launch.threads);
  barriers.begin();
  products.begin(warps_.size());
  block_barriers_ = 0;
  everyone_.members = static_cast<int>(fibers_.size());
  everyone_.arrived = 0;
  unfinished_ = fibers_.size();
}

void Block::advance() {
  progress_ = false;
  boxes.land_some();
  if (machine().order == Machine::Order::ahead) {
    run_ahead();
  } else {
    for (const std::size_t t : order_) {
      if (fibers_[t].can_run()) resume(fibers_[t]);
    }
  }
  if (is_finished()) boxes.require_landed();
  if (!progress_ && !boxes.land_one()) throw std::runtime_error(whereabouts());
}

void Block::run_ahead() {
  std::size_t last = 0;
  for (std::size_t first = 0; first < order_.size(); first = last) {
    while (last < order_.size() && order_[last] / 32 == order_[first] / 32) ++last;
    bool moved = true;
    while (moved) {
      moved = false;
      for (std::size_t t = first; t < last; ++t) {
        Fiber& fiber = fibers_[order_[t]];
        if (!fiber.can_run()) continue;
        resume(fiber);
        moved = true;
      }
    }
  }
}

std::string Block::whereabouts() const {
  std::string text = std::string(launch.name) + ": threads of a block wait for threads that never come:";
  const auto add = [&](const Meeting& meeting) {
    if (meeting.arrived == 0) return;
    text += " " + std::to_string(meeting.arrived) + " of " + std::to_string(meeting.members) + " are at " +
            described(meeting.at) + ", thread " + std::to_string(meeting.first_thread) + " the first;";
  };
  add(everyone_);
  for (const Meeting& meeting : warps_) add(meeting);
  for (const Meeting& meeting : warpgroups_) add(meeting);
  text += barriers.waiting();
  const auto ended = std::count_if(fibers_.begin(), fibers_.end(), [](const Fiber& fiber) { return fiber.finished; });
  return text + " " + std::to_string(ended) + " have ended";
}

std::int64_t Block::shared_offset(const void* address, std::int64_t bytes) const {
  const std::int64_t offset = static_cast<const unsigned char*>(address) - shared();
  if (offset < 0 || offset + bytes > launch.shared_bytes || offset % bytes != 0) {
    throw std::runtime_error(std::string(launch.name) + ": address " + std::to_string(offset) + " is not a place for " +
                             std::to_string(bytes) + " bytes in shared memory");
  }
  return offset;
}

void Block::synchronize(const Synchronization& at) {
  meet(everyone_, at, [](Block& block, Meeting& meeting) {
    ++block.block_barriers_;
    block.clocks.join(0, meeting.members);
  });
}

void Block::synchronize_warp(const Synchronization& at) {
  meet(warp(), at, [](Block& block, Meeting& meeting) {
    ++block.warp_barriers_[static_cast<std::size_t>(&meeting - block.warps_.data())];
    block.clocks.join(meeting.first_member, meeting.members);
  });
}

void Block::exchange(const Synchronization& at, const void* given, void* taken, Work work) {
  Meeting& meeting = warp();
  const int lane = active()->thread % 32;
  meeting.given[lane] = given;
  meeting.taken[lane] = taken;
  meet(meeting, at, work);
}

void Block::exchange_in_warpgroup(const Synchronization& at, const void* given, void* taken, Work work) {
  const auto group = static_cast<std::size_t>(active()->thread / Meeting::most_givers);
  if (group >= warpgroups_.size()) {
    throw std::runtime_error(std::string(launch.name) + ": thread " + std::to_string(active()->thread) +
                             " is of no whole warpgroup, at " + described(at));
  }
  Meeting& meeting = warpgroups_[group];
  meeting.given[active()->thread - meeting.first_member] = given;
  meeting.taken[active()->thread - meeting.first_member] = taken;
  meet(meeting, at, work);
}

void Block::sleep(std::int64_t barrier, int parity) {
  active()->awaited_barrier = barrier;
  active()->awaited_parity = parity;
  pause();
}

void Block::wake(std::int64_t barrier, int parity) {
  progress_ = true;
  for (Fiber& fiber : fibers_) {
    if (fiber.awaited_barrier == barrier && fiber.awaited_parity == parity) fiber.awaited_barrier = -1;
  }
}

void Block::meet(Meeting& meeting, const Synchronization& at, Work work) {
  if (meeting.arrived == 0) {
    meeting.at = at;
    meeting.first_thread = active()->thread;
  } else if (!is_same(meeting.at, at)) {
    abandon(std::string(launch.name) + ": thread " + std::to_string(meeting.first_thread) + " is at " +
            described(meeting.at) + ", and thread " + std::to_string(active()->thread) + " of the same " + meeting.of +
            " at " + described(at));
  }
  if (++meeting.arrived == meeting.members) {
    work(*this, meeting);
    meeting.arrived = 0;
    const auto first = static_cast<std::size_t>(meeting.first_member);
    for (std::size_t t = first; t < first + static_cast<std::size_t>(meeting.members); ++t) {
      if (fibers_[t].awaited == &meeting) fibers_[t].awaited = nullptr;
    }
    progress_ = true;
    return;
  }
  active()->awaited = &meeting;
  pause();
}

void Block::resume(Fiber& fiber) {
  active() = &fiber;
  if (_setjmp(scheduler_) == 0) {
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.beginning);
  }
  active() = nullptr;
  if (error_) std::rethrow_exception(error_);
}

void Block::pause() {
  if (_setjmp(active()->place) == 0) _longjmp(scheduler_, 1);
}

void Block::enter() {
  Fiber& fiber = *active();
  Block& block = *fiber.block;
  try {
    block.kernel_(block.call_);
    if (!fiber.copies.empty()) {
      throw std::runtime_error(std::string(block.launch.name) + ": thread " + std::to_string(fiber.thread) +
                               " ends without having waited for its copies");
    }
    block.products.require_ended(fiber.thread);
  } catch (...) {
    block.error_ = std::current_exception();
  }
  fiber.finished = true;
  block.progress_ = true;
  --block.unfinished_;
  _longjmp(block.scheduler_, 1);
}

void Block::abandon(const std::string& message) {
  error_ = std::make_exception_ptr(std::runtime_error(message));
  _longjmp(scheduler_, 1);
}

void Block::touch_guard(std::uintptr_t address) {
  const Fiber* const fiber = active();
  GuardedExtent extent;
  if (fiber == nullptr || !find_guarded(address, extent)) return;
  Block& block = *fiber->block;
  block.abandon(std::string(block.launch.name) + ": thread " + std::to_string(fiber->thread) + " of block " +
                std::to_string(block.number_) + " touches memory " + distance_from(extent, address));
}

void Block::prepare(Fiber& fiber, int thread) {
  fiber.block = this;
  fiber.thread = thread;
  fiber.started = false;
  fiber.finished = false;
  fiber.awaited = nullptr;
  fiber.awaited_barrier = -1;
  fiber.fences = 0;
  fiber.copy_group = 0;
  fiber.copies.clear();
  getcontext(&fiber.beginning);
  fiber.beginning.uc_stack.ss_sp = stacks_.of(static_cast<std::size_t>(thread));
  fiber.beginning.uc_stack.ss_size = stack_bytes;
  fiber.beginning.uc_link = nullptr;
  makecontext(&fiber.beginning, &Block::enter, 0);
}

void Block::set_order() {
  order_.resize(fibers_.size());
  for (std::size_t t = 0; t < order_.size(); ++t) {
    order_[t] = machine().order == Machine::Order::backward ? order_.size() - 1 - t : t;
  }
  const unsigned seed = machine().seed + number_;
  if (machine().order == Machine::Order::shuffled) shuffle(order_, seed);
  if (machine().order != Machine::Order::ahead) return;
  std::vector<std::size_t> warps(warps_.size());
  for (std::size_t w = 0; w < warps.size(); ++w) warps[w] = w;
  shuffle(warps, seed);
  order_.clear();
  for (const std::size_t w : warps) {
    for (std::size_t t = 32 * w; t < std::min(32 * w + 32, fibers_.size()); ++t) order_.push_back(t);
  }
}

// ---- launches ----

void run_launch(const Launch& launch, void (*kernel)(const void*), const void* call) {
  Machine& machine = emulation::machine();
  ++machine.launches;
  require_possible(launch);
  if (machine.keeps_records) machine.launched.push_back(launch);
  const CatchesGuards catches(&Block::touch_guard);
  std::unique_ptr<GlobalShadow> shadow;
  if (machine.finds_races) shadow = std::make_unique<GlobalShadow>();
  const auto count = static_cast<std::size_t>(launch.grid.x * launch.grid.y * launch.grid.z);
  std::vector<std::size_t> waiting(count);  // the next one is the last
  for (std::size_t b = 0; b < count; ++b) waiting[b] = machine.order == Machine::Order::backward ? b : count - 1 - b;
  const bool is_mixed = machine.order == Machine::Order::shuffled || machine.order == Machine::Order::ahead;
  if (is_mixed) shuffle(waiting, machine.seed);
  const auto begin = [&](Block& block) {
    const auto number = static_cast<std::int64_t>(waiting.back());
    waiting.pop_back();
    block.begin(
        {number % launch.grid.x, number / launch.grid.x % launch.grid.y, number / launch.grid.x / launch.grid.y},
        kernel, call);
  };
  std::vector<std::unique_ptr<Block>> running;
  const std::size_t at_once = std::min(count, static_cast<std::size_t>(machine.blocks_at_once));
  while (running.size() < at_once) {
    running.push_back(std::make_unique<Block>(launch, shadow.get()));
    begin(*running.back());
  }
  std::mt19937 random(machine.seed);
  while (!running.empty()) {
    const std::size_t chosen = running.size() == 1 ? 0 : random() % running.size();
    Block& block = *running[chosen];
    block.advance();
    if (!block.is_finished()) continue;
    if (waiting.empty()) {
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(chosen));
    } else {
      begin(block);
    }
  }
}

}  // namespace nrc_fast::cuda::emulation
