// Races of a launch: two accesses to the same bytes, one of them a write, that no synchronization orders. Known of
// every byte of shared memory, and of global memory, is who wrote it last and who has read it since.
//
// Threads of a block are ordered by its barriers, lanes of a warp by those of the warp too, and blocks of one launch by
// nothing. Shuffles, ldmatrix and mma order no memory. An asynchronous copy writes from where it is issued to where its
// thread waits for it; from there on it is a write of that thread. A copy of a box is one of the copy engine, ordered
// for those who know of it from a barrier in shared memory, as what threads did before they arrived there is
// (clocks.h). Products read from where they are issued to where they are waited for. Atomic accesses race with all
// others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "cuda/emulation/clocks.h"

namespace nrc_fast::cuda::emulation {

// `look`: an atomic read; `fetch`: one of a product.
enum class AccessKind : std::uint8_t { none, read, look, fetch, write, atomic, copy };

struct Access {
  std::uint32_t block;  // counted over the grid
  std::uint32_t block_barriers;
  std::uint32_t warp_barriers;
  std::uint32_t epoch;   // of the thread's clock
  std::uint32_t fences;  // of its writes to shared memory, before
  std::uint32_t code;    // bytes from the beginning of the module
  std::uint16_t thread;
  std::uint8_t bytes;
  AccessKind kind;
};

// Of one byte: there are kernels whose threads write neighbouring bytes.
struct Cell {
  Access write;
  // Of all since the last write, the two that are farthest apart: what races with any of them races with one of these,
  // where barriers are of the block. Of threads, and of products.
  Access reads[2];
  Access fetches[2];
};
constexpr std::int64_t cell_bytes = 1;

class SharedShadow {
 public:
  explicit SharedShadow(std::int64_t bytes);
  Cell* cell(std::int64_t offset) { return cells_.get() + offset / cell_bytes; }

 private:
  struct Free {
    void operator()(Cell* cells) const;
  };
  std::unique_ptr<Cell, Free> cells_;
};

// Of the global memory that a launch touches.
class GlobalShadow {
 public:
  static constexpr std::uintptr_t page_bytes = 4096;
  struct Page {
    Cell cells[page_bytes / cell_bytes];
    // What may be touched of it.
    std::uintptr_t begin;
    std::uintptr_t end;
  };
  Page& page(std::uintptr_t address);

 private:
  static constexpr std::size_t recent_pages = 256;
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
  Page* recent_[recent_pages] = {};
  std::uintptr_t recent_numbers_[recent_pages] = {};
};

// Adds an access to a cell. What it races with, or null.
const Access* add_access(Cell& cell, const Access& now, bool is_shared, const Clocks& clocks);

// "thread 3 reads 8 bytes at [0x12ab]": what is in brackets is an address in the module.
std::string described(const Access& access);

// The address of an instruction as an access keeps it.
std::uint32_t code_offset(const void* address);

}  // namespace nrc_fast::cuda::emulation
