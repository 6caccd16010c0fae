#include "cpu/machine/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "common/arithmetic.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace nrc_fast {
namespace {

// Smaller blocks are quick to get, larger ones are worth giving back.
constexpr std::size_t least_kept_size = std::size_t{16} << 10;
constexpr std::size_t most_kept_size = std::size_t{16} << 20;
constexpr std::size_t large_page = std::size_t{2} << 20;

struct Block {
  void* memory;
  std::size_t size;
};

// The blocks that are kept, the longest kept first. Whoever finds the store busy does without it, so that nobody
// waits, and a child that was forked while it was busy goes on without one. It is never destroyed.
class Store {
 public:
  void* take(std::size_t size) {
    if (!enter()) return nullptr;
    void* found = nullptr;
    for (std::size_t i = count_; found == nullptr && i > 0; --i) {
      if (blocks_[i - 1].size == size) found = remove(i - 1);
    }
    leave();
    return found;
  }

  // Whether the block is kept; the longest kept make room for it.
  bool keep(Block block) {
    if (!enter()) return false;
    while (count_ == blocks_.size() || kept_ + block.size > static_cast<std::size_t>(most_kept_bytes)) {
      std::free(remove(0));
    }
    blocks_[count_++] = block;
    kept_ += block.size;
    leave();
    return true;
  }

  void release() {
    if (!enter()) return;
    while (count_ > 0) std::free(remove(count_ - 1));
    leave();
  }

  std::int64_t kept() {
    if (!enter()) return 0;
    const auto bytes = static_cast<std::int64_t>(kept_);
    leave();
    return bytes;
  }

 private:
  bool enter() { return !busy_.exchange(true, std::memory_order_acquire); }
  void leave() { busy_.store(false, std::memory_order_release); }

  void* remove(std::size_t index) {
    void* const memory = blocks_[index].memory;
    kept_ -= blocks_[index].size;
    --count_;
    std::memmove(&blocks_[index], &blocks_[index] + 1, (count_ - index) * sizeof(Block));
    return memory;
  }

  std::atomic<bool> busy_{false};
  std::array<Block, 64> blocks_{};
  std::size_t count_ = 0;
  std::size_t kept_ = 0;
};

Store store;

bool is_kept(std::size_t size) { return size >= least_kept_size && size <= most_kept_size; }

// Null where there is no memory.
void* allocated(std::size_t size) {
  const bool is_large = size >= 2 * large_page;
  void* memory = nullptr;
  if (posix_memalign(&memory, is_large ? large_page : 64, size) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)
  // A wish: ordinary pages are faulted in one by one, which for the tiles of wide rows takes longer than a block.
  if (is_large) (void)madvise(memory, size / large_page * large_page, MADV_HUGEPAGE);
#endif
  return memory;
}

// Up to an eighth more than asked for, so that nearly equal sizes share their blocks.
std::size_t rounded(std::size_t size) {
  std::size_t step = 64;
  while (is_kept(size) && step * 16 <= size) step *= 2;
  return (size + step - 1) / step * step;
}

// What Python's MemoryError says.
class NoMemory : public std::bad_alloc {
 public:
  explicit NoMemory(std::size_t size)
      : text_("the kernels need " + std::to_string(size >> 20) +
              " MiB at once for sums and workspaces, which this machine does not give; give fewer columns or threads") {
  }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace

Buffer::Buffer(std::int64_t bytes, Contents contents) {
  if (bytes <= 0) return;
  const std::size_t size = rounded(static_cast<std::size_t>(bytes));
  void* memory = is_kept(size) ? store.take(size) : nullptr;
  if (memory == nullptr) memory = allocated(size);
  if (memory == nullptr) throw NoMemory(size);
  data_ = {memory, Release{size}};
  if (contents == Contents::zeros) std::memset(memory, 0, size);
}

void Buffer::Release::operator()(void* memory) const {
  if (!is_kept(size) || !store.keep({memory, size})) std::free(memory);
}

void release_pages(char* memory, std::int64_t size) {
  const auto page = static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::intptr_t>(memory);
  const std::int64_t first = round_up(address, page) - address;
  const std::int64_t last = (address + size) / page * page - address;
  if (first < last) madvise(memory + first, static_cast<std::size_t>(last - first), MADV_DONTNEED);
}

void copy_past_cache(char* target, const char* source, std::size_t size) {
#if defined(__SSE2__)
  constexpr std::size_t least_streamed_size = std::size_t{32} << 10;
  constexpr std::size_t line_size = 64;
  if (size >= least_streamed_size) {
    // Lines go to memory in whole.
    const std::size_t head = -reinterpret_cast<std::uintptr_t>(target) % line_size;
    std::memcpy(target, source, head);
    std::size_t done = head;
    for (; done + line_size <= size; done += line_size) {
      auto* const line = reinterpret_cast<__m128i*>(target + done);
      const auto* const from = reinterpret_cast<const __m128i*>(source + done);
      for (std::size_t i = 0; i < line_size / sizeof(__m128i); ++i)
        _mm_stream_si128(line + i, _mm_loadu_si128(from + i));
    }
    _mm_sfence();
    target += done;
    source += done;
    size -= done;
  }
#endif
  std::memcpy(target, source, size);
}

std::int64_t kept_bytes() { return store.kept(); }

void release_memory() { store.release(); }

}  // namespace nrc_fast
