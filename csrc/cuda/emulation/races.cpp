#include "cuda/emulation/races.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <sstream>

#include "cuda/emulation/guarded_memory.h"

namespace nrc_fast::cuda::emulation {
namespace {

constexpr int lanes = 32;

bool are_ordered(const Access& before, const Access& now, bool is_shared, const Clocks& clocks) {
  if (before.block != now.block) return is_shared;  // which is of one block: the other one has ended
  if (before.kind == AccessKind::copy) return false;
  if (before.thread == now.thread || before.block_barriers < now.block_barriers) return true;
  if (before.thread / lanes == now.thread / lanes && before.warp_barriers < now.warp_barriers) return true;
  return clocks.knows(now.thread, before.thread, before.epoch);
}

bool race(const Access& before, const Access& now, bool is_shared, const Clocks& clocks) {
  if (before.kind == AccessKind::none || are_ordered(before, now, is_shared, clocks)) return false;
  const auto is_atomic = [](AccessKind kind) { return kind == AccessKind::atomic || kind == AccessKind::look; };
  const auto changes = [](AccessKind kind) { return kind >= AccessKind::write; };
  if (is_atomic(before.kind) && is_atomic(now.kind)) return false;
  return changes(before.kind) || changes(now.kind);
}

// How much an earlier read adds to what a later one already says about whom a write would race with.
int distance(const Access& before, const Access& now, bool is_shared) {
  if (before.kind == AccessKind::none) return 0;
  if (before.block != now.block) return is_shared ? 0 : 3;
  if (before.block_barriers != now.block_barriers) return 0;
  if (before.thread / lanes != now.thread / lanes) return 2;
  return before.warp_barriers != now.warp_barriers || before.thread == now.thread ? 0 : 1;
}

bool is_same_moment(const Access& before, const Access& now) {
  return before.kind == now.kind && before.block == now.block && before.thread == now.thread &&
         before.block_barriers == now.block_barriers && before.warp_barriers == now.warp_barriers &&
         before.epoch == now.epoch;
}

}  // namespace

void SharedShadow::Free::operator()(Cell* cells) const { std::free(cells); }

SharedShadow::SharedShadow(std::int64_t bytes) {
  void* const cells = std::calloc(static_cast<std::size_t>(bytes / cell_bytes + 1), sizeof(Cell));
  if (cells == nullptr) throw std::bad_alloc();
  cells_.reset(static_cast<Cell*>(cells));
}

GlobalShadow::Page& GlobalShadow::page(std::uintptr_t address) {
  const std::uintptr_t number = address / page_bytes;
  Page*& recent = recent_[number % recent_pages];
  std::uintptr_t& recent_number = recent_numbers_[number % recent_pages];
  if (recent != nullptr && recent_number == number) return *recent;
  std::unique_ptr<Page>& kept = pages_[number];
  if (kept == nullptr) {
    kept = std::make_unique<Page>();
    kept->begin = 0;
    kept->end = ~std::uintptr_t{0};
    GuardedExtent extent;
    if (find_guarded(address, extent)) {
      kept->begin = extent.begin;
      kept->end = extent.end;
    }
  }
  recent = kept.get();
  recent_number = number;
  return *recent;
}

const Access* add_access(Cell& cell, const Access& now, bool is_shared, const Clocks& clocks) {
  const bool is_write = now.kind == AccessKind::write || now.kind == AccessKind::copy;
  Access(&reads)[2] = now.kind == AccessKind::fetch ? cell.fetches : cell.reads;
  if (!is_write && is_same_moment(reads[0], now)) return nullptr;
  if (race(cell.write, now, is_shared, clocks)) return &cell.write;
  for (const Access* const read : {cell.reads, cell.reads + 1, cell.fetches, cell.fetches + 1}) {
    if (race(*read, now, is_shared, clocks)) return read;
  }
  if (is_write) {
    cell.write = now;
    for (Access* const read : {cell.reads, cell.reads + 1, cell.fetches, cell.fetches + 1})
      read->kind = AccessKind::none;
    return nullptr;
  }
  const int first = distance(reads[0], now, is_shared);
  const int second = distance(reads[1], now, is_shared);
  if (first >= second) reads[1] = reads[0];
  if (std::max(first, second) == 0) reads[1].kind = AccessKind::none;
  reads[0] = now;
  return nullptr;
}

std::string described(const Access& access) {
  static constexpr const char* verbs[] = {
      "", "reads", "reads atomically", "reads for a product", "writes", "changes atomically", "copies asynchronously"};
  std::ostringstream text;
  if (access.thread == Clocks::copy_engine) {
    text << "the copy engine";
  } else {
    text << "thread " << access.thread;
  }
  text << " of block " << access.block << " " << verbs[static_cast<std::size_t>(access.kind)] << " "
       << static_cast<int>(access.bytes) << " bytes at [0x" << std::hex << access.code << "]";
  return text.str();
}

std::uint32_t code_offset(const void* address) {
  static const char* const beginning = [] {
    Dl_info information;
    return dladdr(reinterpret_cast<const void*>(&code_offset), &information) == 0
               ? nullptr
               : static_cast<const char*>(information.dli_fbase);
  }();
  return static_cast<std::uint32_t>(static_cast<const char*>(address) - beginning);
}

}  // namespace nrc_fast::cuda::emulation
