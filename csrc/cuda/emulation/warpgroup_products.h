// Products of warpgroups as the PTX ISA documents wgmma: each of the four warps adds to its 16 rows of the accumulator.
// Operands are read from shared memory at any time between the start of a product and the wait for it, here at the one
// or the other, as the machine says of copies; until the wait the accumulators are nobody's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "cuda/emulation/machine.h"

namespace nrc_fast::cuda::emulation {

class Block;

// The address in the window of shared memory of element (i, k) of a matrix whose rows, of k, have their elements i side
// by side ("MN-major"), of 16 bits, as a descriptor has it. std::invalid_argument for what is not documented.
std::uint32_t element_address(std::uint64_t descriptor, int i, int k);

struct ProductOperands {
  std::uint64_t left;
  std::uint64_t right;
  float* sums;
  int count;  // of them, for each thread
  bool is_bfloat16;
};

class WarpgroupProducts {
 public:
  explicit WarpgroupProducts(Block& block) : block_(block) {}
  void begin(std::size_t warps) { warps_.assign(warps, Warp()); }

  // Of the active thread, with all of its warpgroup or, but for the first, of its warp.
  void start(const ProductOperands& operands, const Synchronization& at, const void* code);
  void fence(const Synchronization& at);
  void commit(const Synchronization& at);
  void wait(int pending, const Synchronization& at);

  void require_ended(int thread) const;

 private:
  struct Product {
    ProductOperands operands;
    int group;
    bool has_run;
    const void* code;
  };
  // Sums that are nobody's: what they are of each lane, and where they go.
  struct Sums {
    std::vector<float> values[32];
    float* targets[32];
    int products = 0;
  };
  struct Warp {
    std::vector<Product> products;
    std::map<float*, Sums> sums;  // by where those of the first lane are
    int group = 0;
    bool is_fenced = false;
  };
  void begin_product(std::size_t warp, const ProductOperands (&lanes)[32], const void* code);
  void run(std::size_t warp, Product& product);
  void end(std::size_t warp, int pending);
  void read_operands(std::size_t warp, const Product& product);
  const std::uint16_t* element(std::uint64_t descriptor, int i, int k) const;

  Block& block_;
  std::vector<Warp> warps_;
};

}  // namespace nrc_fast::cuda::emulation
