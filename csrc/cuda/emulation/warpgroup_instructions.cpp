#include "cuda/emulation/warpgroup_instructions.h"

#include "cuda/emulation/block.h"

namespace nrc_fast::cuda {
namespace {

using emulation::Block;
using emulation::is_left_out;
using emulation::machine;
using emulation::Machine;
using emulation::Synchronization;

Block& own_block() { return *Block::active()->block; }
bool has_fault(Machine::Fault fault) { return machine().fault == fault; }

}  // namespace

std::uint32_t shared_address(const void* shared) {
  return own_block().window() + static_cast<std::uint32_t>(own_block().shared_offset(shared, 1));
}

void initialize_barrier(PhaseBarrier* barrier, int arrivals) { own_block().barriers.initialize(barrier, arrivals); }

void fence_shared_writes(const char* file, int line) {
  if (!is_left_out({"fence_shared_writes", {file, line}})) own_block().barriers.fence();
}

void arrive(PhaseBarrier* barrier) { own_block().barriers.arrive(barrier, 0); }

void arrive_and_expect(PhaseBarrier* barrier, int bytes) {
  own_block().barriers.arrive(barrier, has_fault(Machine::Fault::bytes_missing) ? bytes - 1024 : bytes);
}

void wait_for_phase(PhaseBarrier* barrier, int parity, const char* file, int line) {
  if (is_left_out({"wait_for_phase", {file, line}})) return;
  own_block().barriers.wait(barrier, has_fault(Machine::Fault::wrong_phase) ? parity ^ 1 : parity);
}

void copy_box(void* shared, const TensorMap* map, int column, int row, PhaseBarrier* barrier) {
  own_block().boxes.start(shared, *map, column, row, barrier, __builtin_return_address(0));
}

void fence_products(const char* file, int line) {
  const Synchronization at{"fence_products", {file, line}};
  if (!is_left_out(at)) own_block().products.fence(at);
}

void commit_products(const char* file, int line) {
  const Synchronization at{"commit_products", {file, line}};
  if (!is_left_out(at)) own_block().products.commit(at);
}

void wait_for_products(int pending, const char* file, int line) {
  const Synchronization at{"wait_for_products", {file, line}};
  if (!is_left_out(at)) own_block().products.wait(pending, at);
}

void start_product(float* sums, int count, bool is_bfloat16, std::uint64_t left, std::uint64_t right,
                   const emulation::Place& place) {
  own_block().products.start({left, right, sums, count, is_bfloat16}, {"start_product", place},
                             __builtin_return_address(0));
}

}  // namespace nrc_fast::cuda
