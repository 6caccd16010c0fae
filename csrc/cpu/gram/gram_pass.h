// One pass over the rows of a Gram request: blocks of rows, shared out over threads, packed and multiplied tile by
// tile.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/gram/geometry.h"
#include "cpu/gram/output.h"
#include "cpu/machine/isa.h"
#include "cpu/machine/thread_pool.h"

namespace nrc_fast {

// Private tiles for every thread up to this size in all; beyond it the threads share one set.
constexpr std::int64_t private_tile_bytes = std::int64_t{64} << 20;

// Rows that are fetched ahead must not push out what is computed with.
constexpr std::int64_t most_bytes_ahead = 1 << 20;

// What the rows were like, and the trace of the Gram.
struct GramTotals {
  ReadCounts counts;
  double energy = 0.0;
};

class GramPass {
 public:
  GramPass(const KernelTable& table, const GramRequest& request)
      : request_(request),
        rows_(table.rows()),
        g_(table, request),
        shift_(request.shift, g_.columns, g_.padded, g_.kernels.element_size),
        output_(request.gram, request.gram_onto, g_.columns, g_.kernels.panel_width),
        unit_output_(request.unit_gram, request.unit_gram_onto, g_.columns, g_.kernels.panel_width),
        unit_shift_(request.unit_rows_are_shifted && request.shift != nullptr ? round_up(g_.columns, 8) * 8 : 0) {
    if (unit_shift_.get() != nullptr) std::copy_n(request.shift, g_.columns, unit_shift_.as<double>());
    if (request.cross == nullptr) return;
    target_shift_ = Buffer(request.targets.columns * 8);
    if (request.target_shift != nullptr) {
      std::copy_n(request.target_shift, request.targets.columns, target_shift_.as<double>());
    }
  }

  GramTotals run() {
    const Matrix& features = request_.features;
    const double operations =
        static_cast<double>(features.rows) * static_cast<double>(g_.columns) * static_cast<double>(g_.columns + 1);
    const int parts = parts_for(operations, features.rows, thread_count());
    // A single block of rows needs no memory for its tiles.
    is_direct_ = parts == 1 && features.rows <= gram_block_rows;
    const bool is_private = parts == 1 || parts * g_.tile_bytes() <= private_tile_bytes;
    const int space_count = is_private ? parts : 1;
    std::vector<GramWorkspace> spaces;
    spaces.reserve(static_cast<std::size_t>(space_count));
    for (int p = 0; p < space_count; ++p) spaces.emplace_back(g_, request_, is_direct_ ? 1 : g_.order.size());
    if (is_private) {
      parallel_for(parts,
                   [&](int p) { run_rows(spaces[static_cast<std::size_t>(p)], share(features.rows, parts, p)); });
    } else {
      run_shared(spaces[0], parts);
    }
    GramTotals totals;
    for (const GramWorkspace& space : spaces) merge(totals.counts, space.counts);
    if (!are_usable(totals.counts)) return totals;
    add_sums(spaces);
    totals.energy = is_direct_ ? spaces[0].energy : write_grams(spaces, parts);
    return totals;
  }

 private:
  void run_rows(GramWorkspace& space, Range rows) const {
    // And one empty batch.
    for (std::int64_t first = rows.first; first == rows.first || first < rows.last; first += g_.most_rows()) {
      const std::int64_t count = std::min(g_.most_rows(), rows.last - first);
      const RowBlock source = space.reader.rows(request_.features, first, count, rows.last, space.counts);
      process(space, {first, count, source, rows_ahead({first + count, rows.last}), first == rows.first}, 1);
    }
  }

  // All threads work on the same rows: they pack different panels of them and then fill different tiles.
  void run_shared(GramWorkspace& space, int parts) const {
    for (std::int64_t first = 0; first < request_.features.rows; first += g_.most_rows()) {
      const std::int64_t count = std::min(g_.most_rows(), request_.features.rows - first);
      process(space, {first, count, gather_shared(space, first, count, parts), {}, first == 0}, parts);
    }
  }

  RowBlock gather_shared(GramWorkspace& space, std::int64_t first, std::int64_t count, int parts) const {
    const Matrix& features = request_.features;
    if (!needs_gathering(features)) return {features.row(first), features.row_stride};
    char* const target = space.reader.buffer();
    std::vector<ReadCounts> counts(static_cast<std::size_t>(parts));
    parallel_for(parts, [&](int p) {
      if (!features.is_in_file()) return gather(features, first, count, share(g_.columns, parts, p), target);
      const Range rows = share(count, parts, p);
      read_rows(features, first + rows.first, rows.last - rows.first, target + rows.first * features.row_bytes(),
                counts[static_cast<std::size_t>(p)]);
    });
    for (const ReadCounts& part : counts) merge(space.counts, part);
    return {target, g_.columns};
  }

  // The rows that come next, if they are one piece of memory and little enough of it.
  RowsAhead rows_ahead(Range rows) const {
    const Matrix& features = request_.features;
    const std::int64_t count = std::min(g_.most_rows(), rows.last - rows.first);
    if (count <= 0 || needs_gathering(features) || features.row_stride != features.columns) return {};
    if (count * features.row_bytes() > most_bytes_ahead) return {};
    const std::int64_t tiles = g_.order.size();
    return {features.row(rows.first), features.row(rows.first + count), ceiling(count * features.row_bytes(), tiles)};
  }

  void process(GramWorkspace& space, const RowBatch& batch, int parts) const {
    // Unit rows alone are packed once, with the norms that were taken before; else those in the cache are used again.
    const bool is_unit_only = request_.gram == nullptr && request_.cross == nullptr && request_.unit_gram != nullptr;
    if (is_unit_only) inspect(space, batch, parts);
    pack(space, batch, parts, is_unit_only ? space.norms.as<double>() : nullptr);
    if (!is_unit_only) inspect(space, batch, parts);
    for (std::int64_t b = 0; b < batch.blocks(); ++b) {
      if (!has_finite_sums(space, batch, b)) count_nonfinite(space, batch, batch.block(b));
      add_block_sums(space, b);
    }
    if (is_direct_ && !are_usable(space.counts)) return;
    const RowsAhead ahead = unit_output_.is_wanted() ? RowsAhead{} : batch.ahead;
    if (g_.pairs != nullptr) pack_pairs(space, batch, parts);
    if (output_.is_wanted()) space.energy = fill_tiles(space, batch, parts, space.tiles, output_, ahead);
    if (request_.cross != nullptr) fill_cross(space, batch, parts);
    if (!unit_output_.is_wanted()) return;
    if (!is_unit_only) pack(space, batch, parts, space.norms.as<double>());
    fill_tiles(space, batch, parts, space.unit_tiles, unit_output_, batch.ahead);
  }

  char* packed_block(const GramWorkspace& space, std::int64_t block) const {
    return space.packed.as<char>() + block * g_.packed_block_bytes();
  }
  char* pair_block(const GramWorkspace& space, std::int64_t block) const {
    return space.pairs.as<char>() + block * g_.pair_block_bytes();
  }
  double* offsets(const GramWorkspace& space, std::int64_t block) const {
    return space.pair_sums.as<double>() + block * 2 * g_.padded;
  }
  char* block_sums(const GramWorkspace& space, std::int64_t block) const {
    return space.block_sums.as<char>() + block * g_.padded * g_.kernels.element_size;
  }
  double block_sum(const GramWorkspace& space, std::int64_t block, std::int64_t column) const {
    const char* const sums = block_sums(space, block) + column * g_.kernels.element_size;
    return g_.kernels.element_size == 8 ? read_as<double>(sums) : static_cast<double>(read_as<float>(sums));
  }
  const char* source_row(const RowBatch& batch, std::int64_t row) const {
    return static_cast<const char*>(batch.source.rows) +
           row * batch.source.row_stride * size_of(request_.features.dtype);
  }

  PackArguments pack_arguments(const GramWorkspace& space, const RowBatch& batch, std::int64_t block,
                               const Range& panels, const double* norms) const {
    const Range rows = batch.block(block);
    return {source_row(batch, rows.first),
            batch.source.row_stride,
            rows.last - rows.first,
            g_.columns,
            panels.first,
            panels.last,
            shift_.high.get(),
            shift_.low.get(),
            norms == nullptr ? nullptr : norms + rows.first,
            request_.unit_rows_are_shifted,
            unit_shift_.as<double>(),
            packed_block(space, block),
            block_sums(space, block)};
  }

  // Leaves the sums of the columns of each block beside it.
  void pack(GramWorkspace& space, const RowBatch& batch, int parts, const double* norms) const {
    std::fill(space.is_paired.begin(), space.is_paired.end(), false);
    std::memset(space.block_sums.get(), 0,
                static_cast<std::size_t>(batch.blocks() * g_.padded * g_.kernels.element_size));
    parallel_for(parts, [&](int p) {
      const Range panels = share(g_.panels, parts, p);
      for (std::int64_t b = 0; b < batch.blocks(); ++b) {
        g_.kernels.pack[static_cast<int>(request_.features.dtype)](pack_arguments(space, batch, b, panels, norms));
      }
    });
  }

  // Blocks of which all columns are good as pairs are multiplied as such.
  void pack_pairs(GramWorkspace& space, const RowBatch& batch, int parts) const {
    std::vector<char> are_good(static_cast<std::size_t>(parts * batch.blocks()));
    parallel_for(parts, [&](int p) {
      const Range panels = share(g_.panels, parts, p);
      for (std::int64_t b = 0; b < batch.blocks(); ++b) {
        const bool is_good = g_.pairs->pack({pack_arguments(space, batch, b, panels, nullptr), pair_block(space, b),
                                             offsets(space, b), offsets(space, b) + g_.padded});
        are_good[static_cast<std::size_t>(b * parts + p)] = static_cast<char>(is_good);
      }
    });
    for (std::int64_t b = 0; b < batch.blocks(); ++b) {
      const auto first = are_good.begin() + b * parts;
      space.is_paired[static_cast<std::size_t>(b)] = std::find(first, first + parts, 0) == first + parts;
    }
  }

  // What is known of rows one by one: zero rows, norms, and their targets as float64. After packing: the rows are
  // in the cache by then.
  void inspect(GramWorkspace& space, const RowBatch& batch, int parts) const {
    std::vector<ReadCounts> counts(static_cast<std::size_t>(parts));
    const auto dtype = static_cast<int>(request_.features.dtype);
    parallel_for(parts, [&](int p) {
      const Range rows = share(batch.count, parts, p);
      const std::int64_t count = rows.last - rows.first;
      const char* const data = source_row(batch, rows.first);
      rows_.count[dtype]({data, batch.source.row_stride, count, g_.columns, batch.first + rows.first, false,
                          &counts[static_cast<std::size_t>(p)]});
      if (request_.unit_gram != nullptr) {
        rows_.norms[dtype]({data, batch.source.row_stride, count, g_.columns, unit_shift_.as<double>(),
                            space.norms.as<double>() + rows.first});
      }
      if (request_.cross != nullptr) {
        load_as_double(request_.targets, batch.first + rows.first, count, target_shift_.as<double>(),
                       space.targets.as<double>() + rows.first * request_.targets.columns);
      }
    });
    for (const ReadCounts& part : counts) merge(space.counts, part);
  }

  // Tiles that are written at once are of one part; their trace.
  double fill_tiles(const GramWorkspace& space, const RowBatch& batch, int parts, const Buffer& tiles,
                    const GramOutput& output, const RowsAhead& rows_ahead) const {
    double trace = 0.0;
    parallel_for(parts, [&](int p) {
      RowsAhead ahead = rows_ahead;
      g_.order.for_each_group(share(g_.order.size(), parts, p), [&](Range pairs) {
        for (std::int64_t b = 0; b < batch.blocks(); ++b) {
          for (std::int64_t i = pairs.first; i < pairs.last; ++i) {
            double* const tile = tiles.as<double>() + (is_direct_ ? 0 : i * g_.tile_size);
            add_products(space, batch, b, g_.order[i], tile, ahead);
            if (!is_direct_) continue;
            output.write(g_.order[i], &tile, 1);
            trace += output.trace(g_.order[i], tile);
          }
        }
      });
    });
    return trace;
  }

  void add_products(const GramWorkspace& space, const RowBatch& batch, std::int64_t block, const TilePair& pair,
                    double* tile, RowsAhead& ahead) const {
    const Range range = batch.block(block);
    const std::int64_t rows = range.last - range.first;
    const bool is_first = batch.is_first && block == 0;
    if (!space.is_paired[static_cast<std::size_t>(block)]) {
      const char* const packed = packed_block(space, block);
      g_.kernels.tile({packed, rows, g_.columns, pair.left, pair.right, tile, is_first}, ahead);
      return;
    }
    const double* const rest = request_.shift != nullptr ? offsets(space, block) : nullptr;
    const char* const pairs = pair_block(space, block);
    g_.pairs->tile({{pairs, ceiling(rows, 2), g_.columns, pair.left, pair.right, tile, is_first},
                    rest,
                    rest != nullptr ? rest + g_.padded : nullptr},
                   ahead);
  }

  void fill_cross(const GramWorkspace& space, const RowBatch& batch, int parts) const {
    parallel_for(parts, [&](int p) {
      const Range panels = share(g_.panels, parts, p);
      for (std::int64_t b = 0; b < batch.blocks(); ++b) {
        const Range rows = batch.block(b);
        g_.kernels.cross({packed_block(space, b), rows.last - rows.first, g_.columns, panels.first, panels.last,
                          space.targets.as<double>() + rows.first * request_.targets.columns, request_.targets.columns,
                          space.cross.as<double>(), g_.padded});
      }
    });
  }

  // A non-finite value leaves its trace in the sum of its column, so that the check costs nothing per row.
  // Large finite values may do the same; count_nonfinite tells them apart.
  bool has_finite_sums(const GramWorkspace& space, const RowBatch& batch, std::int64_t block) const {
    double trace = 0.0;
    for (std::int64_t c = 0; c < g_.columns; ++c) trace += 0.0 * block_sum(space, block, c);
    if (request_.cross != nullptr) {
      const Range rows = batch.block(block);
      const std::int64_t n = request_.targets.columns;
      for (std::int64_t i = rows.first * n; i < rows.last * n; ++i) trace += 0.0 * space.targets.as<double>()[i];
    }
    return trace == 0.0;
  }

  void count_nonfinite(GramWorkspace& space, const RowBatch& batch, Range rows) const {
    const auto dtype = static_cast<int>(request_.features.dtype);
    const std::int64_t n = request_.cross != nullptr ? request_.targets.columns : 0;
    for (std::int64_t r = rows.first; r < rows.last; ++r) {
      ReadCounts row;
      rows_.count[dtype]({source_row(batch, r), batch.source.row_stride, 1, g_.columns, batch.first + r, true, &row});
      bool finite = row.nonfinite == 0;
      for (std::int64_t t = 0; t < n; ++t) finite = finite && std::isfinite(space.targets.as<double>()[r * n + t]);
      if (!finite) merge(space.counts, nonfinite_row(batch.first + r));
    }
  }

  void add_block_sums(const GramWorkspace& space, std::int64_t block) const {
    for (std::int64_t c = 0; c < g_.columns; ++c) space.column_sums.as<double>()[c] += block_sum(space, block, c);
  }

  void add_sums(const std::vector<GramWorkspace>& spaces) const {
    if (request_.column_sums != nullptr) add_rows(spaces, &GramWorkspace::column_sums, 1, request_.column_sums);
    if (request_.cross != nullptr) add_rows(spaces, &GramWorkspace::cross, request_.targets.columns, request_.cross);
  }

  void add_rows(const std::vector<GramWorkspace>& spaces, Buffer GramWorkspace::* buffer, std::int64_t rows,
                double* target) const {
    std::fill_n(target, rows * g_.columns, 0.0);
    for (const GramWorkspace& space : spaces) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const double* const source = (space.*buffer).as<double>() + r * g_.padded;
        for (std::int64_t c = 0; c < g_.columns; ++c) target[r * g_.columns + c] += source[c];
      }
    }
  }

  // Adds up the tiles of all parts; the trace of the Gram.
  double write_grams(const std::vector<GramWorkspace>& spaces, int parts) const {
    double trace = 0.0;
    for (std::int64_t i = 0; output_.is_wanted() && i < g_.order.size(); ++i) {
      for (const GramWorkspace& space : spaces) {
        trace += output_.trace(g_.order[i], space.tiles.as<double>() + i * g_.tile_size);
      }
    }
    std::vector<std::vector<const double*>> tiles(static_cast<std::size_t>(parts),
                                                  std::vector<const double*>(spaces.size()));
    parallel_for(parts, [&](int p) {
      std::vector<const double*>& own = tiles[static_cast<std::size_t>(p)];
      const Range pairs = share(g_.order.size(), parts, p);
      for (std::int64_t i = pairs.first; i < pairs.last; ++i) {
        if (output_.is_wanted()) write_tile(output_, spaces, &GramWorkspace::tiles, i, own);
        if (unit_output_.is_wanted()) write_tile(unit_output_, spaces, &GramWorkspace::unit_tiles, i, own);
      }
    });
    return trace;
  }

  void write_tile(const GramOutput& output, const std::vector<GramWorkspace>& spaces, Buffer GramWorkspace::* buffer,
                  std::int64_t index, std::vector<const double*>& tiles) const {
    for (std::size_t t = 0; t < spaces.size(); ++t) {
      tiles[t] = (spaces[t].*buffer).as<double>() + index * g_.tile_size;
    }
    output.write(g_.order[index], tiles.data(), tiles.size());
  }

  const GramRequest& request_;
  const RowKernels& rows_;
  GramGeometry g_;
  Shift shift_;
  GramOutput output_;
  GramOutput unit_output_;
  bool is_direct_ = false;  // tiles are written at once
  Buffer unit_shift_;
  Buffer target_shift_;
};

}  // namespace nrc_fast
