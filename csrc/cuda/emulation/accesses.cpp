// Accesses of a block to memory: races, limits of memory, and asynchronous copies of single pieces.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cuda/emulation/block.h"

namespace nrc_fast::cuda::emulation {

Access Block::access_of(int thread, AccessKind kind, std::int64_t bytes, const void* code) const {
  const bool is_thread = thread != Clocks::copy_engine;
  return {number_,
          is_thread ? block_barriers_ : ~0u,
          is_thread ? warp_barriers_[static_cast<std::size_t>(thread / 32)] : ~0u,
          clocks.epoch(thread),
          is_thread ? fibers_[static_cast<std::size_t>(thread)].fences : 0u,
          code_offset(code),
          static_cast<std::uint16_t>(thread),
          static_cast<std::uint8_t>(std::min<std::int64_t>(bytes, 255)),
          kind};
}

void Block::access(const void* address, std::int64_t bytes, AccessKind kind, const void* code) {
  if (global_shadow_ == nullptr) return;
  access_at(address, bytes, access_of(active()->thread, kind, bytes, code), false);
}

void Block::access_for(int thread, const void* address, std::int64_t bytes, AccessKind kind, const void* code) {
  if (global_shadow_ == nullptr) return;
  access_at(address, bytes, access_of(thread, kind, bytes, code), true);
}

void Block::access_at(const void* address, std::int64_t bytes, const Access& now, bool is_asynchronous) {
  const auto* const place = static_cast<const unsigned char*>(address);
  const auto number = reinterpret_cast<std::uintptr_t>(place);
  if (stacks_.contain(number)) return;
  const std::uintptr_t shared = reinterpret_cast<std::uintptr_t>(shared_.data());
  const auto size = static_cast<std::uintptr_t>(bytes);
  if (number - shared < static_cast<std::uintptr_t>(launch.shared_bytes)) {
    if (number - shared + size > static_cast<std::uintptr_t>(launch.shared_bytes)) {
      abandon(std::string(launch.name) + ": " + described(now) + " that cross the end of shared memory");
    }
    return access_cells(number - shared, number - shared + size, now, true, is_asynchronous);
  }
  access_cells(number, number + size, now, false, false);
}

void Block::land(const void* shared, std::int64_t bytes) {
  if (shared_shadow_ == nullptr) return;
  const std::int64_t begin = static_cast<const unsigned char*>(shared) - this->shared();
  for (std::int64_t at = begin; at < begin + bytes; at += cell_bytes) {
    Access& write = shared_shadow_->cell(at)->write;
    const std::uint32_t code = write.code;
    write = access_of(Clocks::copy_engine, AccessKind::write, bytes, nullptr);
    write.code = code;
  }
}

void Block::access_cells(std::uintptr_t begin, std::uintptr_t end, const Access& now, bool is_shared,
                         bool is_asynchronous) {
  for (std::uintptr_t at = begin / cell_bytes * cell_bytes; at < end; at += cell_bytes) {
    Cell* cell = nullptr;
    if (is_shared) {
      cell = shared_shadow_->cell(static_cast<std::int64_t>(at));
    } else {
      GlobalShadow::Page& page = global_shadow_->page(at);
      if (begin < page.begin || end > page.end) {
        const std::uintptr_t outside = begin < page.begin ? begin : std::max(begin, page.end);
        abandon(std::string(launch.name) + ": " + described(now) + " of memory " +
                distance_from({page.begin, page.end}, outside));
      }
      cell = page.cells + at % GlobalShadow::page_bytes / cell_bytes;
    }
    const Access& last = cell->write;
    if (is_asynchronous && last.kind == AccessKind::write && last.block == now.block &&
        last.thread != Clocks::copy_engine && fibers_[last.thread].fences <= last.fences) {
      abandon(std::string(launch.name) + ": " + described(now) + " asynchronously, byte " + std::to_string(at) +
              " of shared memory, which " + described(last) + " and has not fenced since");
    }
    const Access* const other = add_access(*cell, now, is_shared, clocks);
    if (other == nullptr) continue;
    GuardedExtent extent;
    const bool is_known = !is_shared && find_guarded(at, extent);
    abandon(std::string(launch.name) + ": a race: " + described(now) + ", byte " +
            std::to_string(is_known ? at - extent.begin : at) + " of " +
            (is_shared ? "shared memory" : "an allocation") + ", which " + described(*other));
  }
}

void Block::start_copy(void* shared, const void* global, int bytes, int valid_bytes, const void* code) {
  shared_offset(shared, bytes);
  if (reinterpret_cast<std::uintptr_t>(global) % static_cast<unsigned>(bytes) != 0 || valid_bytes < 0 ||
      valid_bytes > bytes) {
    throw std::runtime_error(std::string(launch.name) + ": an asynchronous copy of " + std::to_string(bytes) +
                             " bytes needs an address that these divide, and no more valid bytes");
  }
  machine().copied_bytes += valid_bytes;
  access(shared, bytes, AccessKind::copy, code);
  if (valid_bytes > 0) access(global, valid_bytes, AccessKind::read, code);
  Fiber& fiber = *active();
  fiber.copies.push_back({static_cast<unsigned char*>(shared), {}, bytes, fiber.copy_group});
  Copy& copy = fiber.copies.back();
  std::memcpy(copy.values, global, static_cast<std::size_t>(valid_bytes));
  if (machine().copies == Machine::Copies::early) {
    std::memcpy(shared, copy.values, static_cast<std::size_t>(bytes));
  } else {
    std::memset(shared, 0xff, static_cast<std::size_t>(bytes));  // undefined until it has been waited for
  }
}

void Block::finish_copies(int pending) {
  Fiber& fiber = *active();
  while (!fiber.copies.empty() && fiber.copies.front().group < fiber.copy_group - pending) {
    const Copy& copy = fiber.copies.front();
    if (machine().copies == Machine::Copies::late) {
      std::memcpy(copy.target, copy.values, static_cast<std::size_t>(copy.bytes));
    }
    const std::int64_t begin = copy.target - shared();
    for (std::int64_t at = begin; shared_shadow_ != nullptr && at < begin + copy.bytes; at += cell_bytes) {
      Access& write = shared_shadow_->cell(at)->write;
      const std::uint32_t code = write.code;
      write = access_of(fiber.thread, AccessKind::write, copy.bytes, nullptr);
      write.code = code;
    }
    fiber.copies.pop_front();
  }
}

}  // namespace nrc_fast::cuda::emulation
