#include "cuda/emulation/warpgroup_products.h"

#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/emulation/block.h"
#include "cuda/emulation/tensor_core.h"

namespace nrc_fast::cuda::emulation {
namespace {

constexpr int depth = 16;  // of a product
constexpr int warp_rows = 16;

std::uint32_t field(std::uint64_t descriptor, int first, int bits) {
  return static_cast<std::uint32_t>(descriptor >> first & ((std::uint64_t{1} << bits) - 1));
}

}  // namespace

std::uint32_t element_address(std::uint64_t descriptor, int i, int k) {
  // Bits 0-13, 16-29 and 32-45 count in 16 bytes; 49-51 are the base offset, 62-63 the swizzling mode.
  const std::uint32_t start = field(descriptor, 0, 14) << 4;
  const std::uint32_t leading = field(descriptor, 16, 14) << 4;
  const std::uint32_t stride = field(descriptor, 32, 14) << 4;
  if (field(descriptor, 49, 3) != 0) throw std::invalid_argument("a descriptor with a base offset is not known here");
  constexpr std::uint64_t known = 0xc00e3fff3fff3fff;
  if ((descriptor & ~known) != 0) throw std::invalid_argument("a descriptor has bits that no field has");
  // By chunks of eight elements, "T": ((T,w,m),(8,k)) lie at ((1,T,leading),(wT,stride)); without swizzling, w = 1, at
  // ((1,T,stride),(1T,leading)).
  static constexpr std::uint32_t chunks_of_mode[] = {1, 8, 4, 2};
  const std::uint32_t mode = field(descriptor, 62, 2);
  const std::uint32_t w = chunks_of_mode[mode];
  const auto chunk = static_cast<std::uint32_t>(i) / 8;
  const auto row = static_cast<std::uint32_t>(k);
  std::uint32_t address = start + row % 8 * w * 16 + chunk % w * 16;
  address += mode == 0 ? chunk * stride + row / 8 * leading : chunk / w * leading + row / 8 * stride;
  // Swizzle<log2 w, 4, 3>: bits from 4 on are xored with those from 7 on.
  address ^= (address >> 7 & (w - 1)) << 4;
  return address + static_cast<std::uint32_t>(i) % 8 * 2;
}

const std::uint16_t* WarpgroupProducts::element(std::uint64_t descriptor, int i, int k) const {
  if (machine().fault == Machine::Fault::not_swizzled) descriptor &= ~(std::uint64_t{3} << 62);
  const std::uint32_t address = element_address(descriptor, i, k);
  const unsigned char* const place = block_.shared() + (std::int64_t{address} - std::int64_t{block_.window()});
  block_.shared_offset(place, 2);
  return static_cast<const std::uint16_t*>(static_cast<const void*>(place));
}

void WarpgroupProducts::start(const ProductOperands& operands, const Synchronization& at, const void* code) {
  struct Given {
    ProductOperands operands;
    const void* code;
  };
  const Given ours{operands, code};
  block_.exchange_in_warpgroup(at, &ours, nullptr, [](Block& block, Meeting& meeting) {
    const auto given = [&](int t) -> const Given& { return *static_cast<const Given*>(meeting.given[t]); };
    for (int t = 1; t < meeting.members; ++t) {
      if (given(t).operands.left != given(0).operands.left || given(t).operands.right != given(0).operands.right) {
        block.abandon(std::string(block.launch.name) + ": threads of a warpgroup give a product different descriptors");
      }
    }
    for (int warp = 0; warp < 4; ++warp) {
      ProductOperands lanes[32];
      for (int lane = 0; lane < 32; ++lane) lanes[lane] = given(warp * 32 + lane).operands;
      block.products.begin_product(static_cast<std::size_t>(meeting.first_member / 32 + warp), lanes, given(0).code);
    }
  });
}

void WarpgroupProducts::begin_product(std::size_t number, const ProductOperands (&lanes)[32], const void* code) {
  Warp& warp = warps_[number];
  const auto count = static_cast<std::size_t>(lanes[0].count);
  const auto found = warp.sums.find(lanes[0].sums);
  if (found == warp.sums.end()) {
    if (!warp.is_fenced) {
      block_.abandon(std::string(block_.launch.name) + ": a product begins with sums that warp " +
                     std::to_string(number) + " may have used since its last fence of products");
    }
    Sums& sums = warp.sums[lanes[0].sums];
    for (int lane = 0; lane < 32; ++lane) {
      float* const target = sums.targets[lane] = lanes[lane].sums;
      sums.values[lane].assign(target, target + count);
      std::fill(target, target + count, std::numeric_limits<float>::quiet_NaN());
    }
  }
  ++warp.sums[lanes[0].sums].products;
  Product product{lanes[0], warp.group, false, code};
  read_operands(number, product);
  if (machine().copies == Machine::Copies::early) run(number, product);
  warp.products.push_back(product);
}

void WarpgroupProducts::read_operands(std::size_t number, const Product& product) {
  if (!block_.finds_races()) return;
  const int thread = static_cast<int>(number) * 32;
  for (int k = 0; k < depth; ++k) {
    for (int i = 0; i < warp_rows; i += 8) {
      const auto row = static_cast<int>(number % 4) * warp_rows + i;
      block_.access_for(thread, element(product.operands.left, row, k), 16, AccessKind::fetch, product.code);
    }
    for (int i = 0; i < product.operands.count * 2; i += 8) {
      block_.access_for(thread, element(product.operands.right, i, k), 16, AccessKind::fetch, product.code);
    }
  }
}

void WarpgroupProducts::run(std::size_t number, Product& product) {
  const ProductOperands& operands = product.operands;
  const auto widened = operands.is_bfloat16 ? &widened_bfloat16 : &widened_float16;
  const TensorCore core = tensor_core_of(machine().capability);
  const int columns = operands.count * 2;
  Factor left[warp_rows][depth];
  std::vector<Factor> right(static_cast<std::size_t>(columns * depth));
  for (int k = 0; k < depth; ++k) {
    for (int i = 0; i < warp_rows; ++i) {
      left[i][k] = factor(widened(*element(operands.left, static_cast<int>(number % 4) * warp_rows + i, k)));
    }
    for (int i = 0; i < columns; ++i) {
      right[static_cast<std::size_t>(i * depth + k)] = factor(widened(*element(operands.right, i, k)));
    }
  }
  Sums& sums = warps_[number].sums.at(operands.sums);
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < operands.count; ++r) {
      // Registers 0, 1: a row and two columns; 2, 3: the row eight below; and so on, eight columns further.
      const int row = lane / 4 + (r / 2 % 2 == 0 ? 0 : 8);
      const int column = r / 4 * 8 + lane % 4 * 2 + r % 2;
      float& sum = sums.values[lane][static_cast<std::size_t>(r)];
      sum = dot_add(core, sum, left[row], &right[static_cast<std::size_t>(column * depth)]);
    }
  }
  product.has_run = true;
}

void WarpgroupProducts::fence(const Synchronization& at) {
  block_.exchange(at, nullptr, nullptr, [](Block& block, Meeting& meeting) {
    block.products.warps_[static_cast<std::size_t>(meeting.first_member / 32)].is_fenced = true;
  });
}

void WarpgroupProducts::commit(const Synchronization& at) {
  block_.exchange(at, nullptr, nullptr, [](Block& block, Meeting& meeting) {
    ++block.products.warps_[static_cast<std::size_t>(meeting.first_member / 32)].group;
  });
}

void WarpgroupProducts::wait(int pending, const Synchronization& at) {
  block_.exchange(at, &pending, nullptr, [](Block& block, Meeting& meeting) {
    block.products.end(static_cast<std::size_t>(meeting.first_member / 32), *static_cast<const int*>(meeting.given[0]));
    block.clocks.tell(meeting.first_member, meeting.members);
  });
}

void WarpgroupProducts::end(std::size_t number, int pending) {
  Warp& warp = warps_[number];
  while (!warp.products.empty() && warp.products.front().group < warp.group - pending) {
    Product& product = warp.products.front();
    read_operands(number, product);
    if (!product.has_run) run(number, product);
    Sums& sums = warp.sums.at(product.operands.sums);
    if (--sums.products == 0) {
      for (int lane = 0; lane < 32; ++lane) {
        std::copy(sums.values[lane].begin(), sums.values[lane].end(), sums.targets[lane]);
      }
      warp.sums.erase(product.operands.sums);
      warp.is_fenced = false;
    }
    warp.products.erase(warp.products.begin());
  }
}

void WarpgroupProducts::require_ended(int thread) const {
  if (warps_[static_cast<std::size_t>(thread / 32)].products.empty()) return;
  throw std::runtime_error(std::string(block_.launch.name) + ": thread " + std::to_string(thread) +
                           " ends without having waited for its products");
}

}  // namespace nrc_fast::cuda::emulation
