// What -fsanitize=thread makes the kernels call for every access to memory; the runtime library of the sanitizer, which
// knows threads of the system and no fibers, is not linked.
#include <cstddef>

#include "cuda/emulation/block.h"

namespace nrc_fast::cuda::emulation {
namespace {

void add(const void* address, std::int64_t bytes, AccessKind kind, const void* code) {
  Fiber* const fiber = Block::active();
  if (fiber != nullptr) fiber->block->access(address, bytes, kind, code);
}

}  // namespace
}  // namespace nrc_fast::cuda::emulation

// The names are the compiler's.
#define NRC_FAST_HOOKS(bytes)                                                                \
  void __tsan_read##bytes(const void* address) { add_here(address, bytes, read); }           \
  void __tsan_write##bytes(const void* address) { add_here(address, bytes, write); }         \
  void __tsan_unaligned_read##bytes(const void* address) { add_here(address, bytes, read); } \
  void __tsan_unaligned_write##bytes(const void* address) { add_here(address, bytes, write); }
#define add_here(address, bytes, kind)                                                        \
  nrc_fast::cuda::emulation::add(address, bytes, nrc_fast::cuda::emulation::AccessKind::kind, \
                                 __builtin_return_address(0))

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}
NRC_FAST_HOOKS(1)
NRC_FAST_HOOKS(2)
NRC_FAST_HOOKS(4)
NRC_FAST_HOOKS(8)
NRC_FAST_HOOKS(16)
void __tsan_read_range(const void* address, std::size_t bytes) {
  add_here(address, static_cast<std::int64_t>(bytes), read);
}
void __tsan_write_range(const void* address, std::size_t bytes) {
  add_here(address, static_cast<std::int64_t>(bytes), write);
}
void __tsan_vptr_update(const void*, const void*) {}
void __tsan_vptr_read(const void*) {}
// Whether a constant of a function, on the host's side, is there already; kernels have atomic functions of their own.
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
}
