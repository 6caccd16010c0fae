// Aligned memory of a pass. Freed blocks of ordinary size are kept for the next pass: a fresh block of the system's
// costs a page fault for every 4 KiB, which for small batches is more than the work on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace nrc_fast {

// What a new buffer holds.
enum class Contents { zeros, anything };

// Aligned to a cache line, which is also the widest vector.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t bytes, Contents contents = Contents::zeros);

  void* get() const { return data_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_.get());
  }

 private:
  struct Release {
    std::size_t size;
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Release> data_{nullptr, Release{0}};
};

// Bytes that are kept, never more than the most; and giving all of them back.
std::int64_t kept_bytes();
void release_memory();
constexpr std::int64_t most_kept_bytes = std::int64_t{64} << 20;

// Gives back the pages of a mapped file that lie wholly in a range; they are read again when they are needed.
void release_pages(char* memory, std::int64_t size);

// Copies what is not needed soon, and leaves the cache to what is.
void copy_past_cache(char* target, const char* source, std::size_t size);

}  // namespace nrc_fast
