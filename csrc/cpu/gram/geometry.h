// How a Gram pass is cut into panels, tiles and batches of rows, and the memory that takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/gram/gram.h"
#include "cpu/gram/order.h"
#include "cpu/machine/kernel_table.h"
#include "cpu/machine/rows.h"

namespace nrc_fast {

// What a group of tiles and its panels may take of a core's own cache.
constexpr std::int64_t group_bytes = 768 << 10;

// Tiles beyond this size go to memory and back for every batch of rows; a batch is then of more than one block.
constexpr std::int64_t cached_tile_bytes = 8 << 20;
constexpr std::int64_t most_blocks = 2;

struct GramGeometry {
  GramGeometry(const KernelTable& table, const GramRequest& request)
      : kernels(request.double_precision || request.features.dtype == DType::float64 ? table.gram_float64()
                                                                                     : table.gram_float32()),
        pairs(pair_kernels(table, request)),
        columns(request.features.columns),
        panels(ceiling(columns, kernels.panel_width)),
        padded(round_up(columns, kernels.panel_step)),
        tile_size(kernels.panel_width * kernels.panel_width),
        order(panels, group_panels()),
        blocks(blocks_together(request.features.rows)) {}

  std::int64_t tile_bytes() const { return order.size() * tile_size * 8; }
  std::int64_t packed_block_bytes() const { return gram_block_rows * padded * kernels.element_size; }
  std::int64_t pair_block_bytes() const {
    return pairs != nullptr ? round_up(gram_block_rows, pairs->row_step) * padded * pairs->element_size : 0;
  }
  std::int64_t most_rows() const { return blocks * gram_block_rows; }

  const GramKernels& kernels;
  const PairKernels* pairs;  // null: everything is multiplied by the others
  std::int64_t columns;
  std::int64_t panels;
  std::int64_t padded;
  std::int64_t tile_size;
  TileOrder order;
  std::int64_t blocks;  // blocks of rows that are packed before the tiles are filled

 private:
  static const PairKernels* pair_kernels(const KernelTable& table, const GramRequest& request) {
    const bool is_asked_for = request.gram != nullptr && !request.double_precision;
    if (!is_asked_for || request.features.dtype != DType::bfloat16 || table.gram_pairs == nullptr) return nullptr;
    const PairKernels& kernels = table.gram_pairs();
    return request.features.columns >= kernels.least_columns ? &kernels : nullptr;
  }

  std::int64_t group_panels() const {
    const std::int64_t panel_bytes = gram_block_rows * kernels.panel_width * kernels.element_size;
    std::int64_t count = 1;
    while (2 * (count + 1) * panel_bytes + (count + 1) * (count + 1) * tile_size * 8 <= group_bytes) ++count;
    return count;
  }

  std::int64_t blocks_together(std::int64_t rows) const {
    const std::int64_t needed = ceiling(rows, gram_block_rows);
    return tile_bytes() <= cached_tile_bytes ? 1 : std::clamp<std::int64_t>(needed, 1, most_blocks);
  }
};

// Scratch and sums of the rows that are packed together.
struct GramWorkspace {
  // `tiles` of each Gram: all of them, or one after the other if there is a single block of rows.
  GramWorkspace(const GramGeometry& g, const GramRequest& request, std::int64_t tile_count)
      : packed(g.blocks * g.packed_block_bytes(), Contents::anything),
        block_sums(g.blocks * g.padded * g.kernels.element_size),
        pairs(g.blocks * g.pair_block_bytes(), Contents::anything),
        pair_sums(g.pairs != nullptr ? g.blocks * 2 * g.padded * 8 : 0, Contents::anything),
        is_paired(static_cast<std::size_t>(g.blocks)),
        column_sums(g.padded * 8),
        tiles(request.gram != nullptr ? tile_count * g.tile_size * 8 : 0, Contents::anything),
        unit_tiles(request.unit_gram != nullptr ? tile_count * g.tile_size * 8 : 0, Contents::anything),
        norms(request.unit_gram != nullptr ? g.most_rows() * 8 : 0),
        reader(request.features, g.most_rows()),
        targets(request.cross != nullptr ? g.most_rows() * request.targets.columns * 8 : 0),
        cross(request.cross != nullptr ? request.targets.columns * g.padded * 8 : 0) {}

  Buffer packed;
  Buffer block_sums;
  Buffer pairs;
  Buffer pair_sums;             // of each block: offsets and half sums
  std::vector<bool> is_paired;  // of each block, until it is packed anew
  Buffer column_sums;
  Buffer tiles;
  Buffer unit_tiles;
  Buffer norms;
  RowReader reader;
  Buffer targets;
  Buffer cross;
  ReadCounts counts;
  double energy = 0.0;  // of tiles that were written one after the other
};

// Rows that are packed together: one or more blocks of gram_block_rows.
struct RowBatch {
  std::int64_t first;
  std::int64_t count;
  RowBlock source;
  RowsAhead ahead;
  bool is_first;  // of those of its workspace

  // No rows at all are one empty block.
  std::int64_t blocks() const { return std::max<std::int64_t>(ceiling(count, gram_block_rows), 1); }
  Range block(std::int64_t index) const {
    return {index * gram_block_rows, std::min((index + 1) * gram_block_rows, count)};
  }
};

}  // namespace nrc_fast
