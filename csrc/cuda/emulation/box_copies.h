// The copy engine: what a tensor map says is read from the arguments of cuTensorMapEncodeTiled, which the emulated map
// holds, as the CUDA driver API documents them, and boxes are written to shared memory as the PTX ISA documents
// cp.async.bulk.tensor and its swizzling modes.
#pragma once

#include <cstdint>
#include <vector>

namespace nrc_fast::cuda {
struct TensorMap;
}

namespace nrc_fast::cuda::emulation {

class Block;

class BoxCopies {
 public:
  explicit BoxCopies(Block& block) : block_(block) {}

  // For the active thread.
  void start(void* shared, const TensorMap& map, int column, int row, const void* barrier, const void* code);

  // The oldest copy that is on its way, or any where the machine's order is mixed, lands; false where there is none.
  bool land_one();
  // Some may land at any time.
  void land_some();
  void require_landed() const;

 private:
  // 16 bytes of a row of the box and where they go, by bytes of shared memory.
  struct Piece {
    std::int64_t target;
    unsigned char values[16];
  };
  struct BoxCopy {
    std::vector<Piece> pieces;
    const void* barrier;
    std::int64_t bytes;
  };
  void land(const BoxCopy& copy);

  Block& block_;
  std::vector<BoxCopy> copies_;
  unsigned turn_ = 0;
};

}  // namespace nrc_fast::cuda::emulation
