// Panels: how a block of rows is stored once it is packed.
#pragma once

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int largest_divisor(int number, int most) {
  while (number % most != 0) --most;
  return most;
}

// Three vectors wide, and as tall as the registers allow: 8 x 3 accumulators of 32, or 4 x 3 of 16; fewer where the
// tiles would not divide the panel.
constexpr int panel_vectors = 3;
template <class T>
constexpr int panel_width = panel_vectors * lanes<T>;
template <class T>
constexpr int tile_rows = largest_divisor(panel_width<T>, vector_registers / 4);

// The last panel is only as wide as its columns need, in whole vectors and whole strips of a tile.
template <class T>
constexpr int panel_step = lanes<T> % tile_rows<T> == 0 ? lanes<T> : panel_width<T>;

template <class T>
NRC_FAST_INLINE int width_of(std::int64_t panel, std::int64_t columns) {
  const std::int64_t rest = columns - panel * panel_width<T>;
  if (rest >= panel_width<T>) return panel_width<T>;
  return static_cast<int>((rest + panel_step<T> - 1) / panel_step<T> * panel_step<T>);
}

// All panels before one are whole.
template <class T>
NRC_FAST_INLINE std::int64_t offset_of(std::int64_t panel, std::int64_t row_count) {
  return panel * panel_width<T> * row_count;
}

}  // namespace nrc_fast::NRC_FAST_ISA
