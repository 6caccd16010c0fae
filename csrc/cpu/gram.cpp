#include "cpu/gram.h"

#include <cmath>

#include "cpu/isa.h"
#include "cpu/rows.h"
#include "cpu/thread_pool.h"

namespace nrc_fast {
namespace {

// Private tiles for every thread up to this size in all; beyond it the threads share one set.
constexpr std::int64_t private_tile_bytes = std::int64_t{64} << 20;

struct Geometry {
  Geometry(const KernelTable& table, const GramRequest& request)
      : kernels(request.double_precision || request.features.dtype == DType::float64 ? table.gram_float64()
                                                                                     : table.gram_float32()),
        columns(request.features.columns),
        panels(round_up(columns, kernels.panel_width) / kernels.panel_width),
        padded(panels * kernels.panel_width),
        pairs(panels * (panels + 1) / 2),
        tile_size(kernels.panel_width * kernels.panel_width) {}

  std::int64_t tile_bytes() const { return pairs * tile_size * 8; }

  const GramKernels& kernels;
  std::int64_t columns;
  std::int64_t panels;
  std::int64_t padded;
  std::int64_t pairs;
  std::int64_t tile_size;
};

// Scratch and sums of the rows that are packed together.
struct Workspace {
  Workspace(const Geometry& g, const GramRequest& request)
      : packed(g.padded * gram_block_rows * g.kernels.element_size),
        block_sums(g.padded * g.kernels.element_size),
        column_sums(g.padded * 8),
        tiles(request.gram != nullptr ? g.tile_bytes() : 0),
        unit_tiles(request.unit_gram != nullptr ? g.tile_bytes() : 0),
        norms(gram_block_rows * 8),
        reader(request.features, gram_block_rows),
        targets(request.cross != nullptr ? gram_block_rows * request.targets.columns * 8 : 0),
        cross(request.cross != nullptr ? request.targets.columns * g.padded * 8 : 0) {}

  Buffer packed;
  Buffer block_sums;
  Buffer column_sums;
  Buffer tiles;
  Buffer unit_tiles;
  Buffer norms;
  RowReader reader;
  Buffer targets;
  Buffer cross;
  RowCounts counts;
};

struct Block {
  std::int64_t first;
  std::int64_t count;
};

class GramPass {
 public:
  GramPass(const KernelTable& table, const GramRequest& request)
      : request_(request),
        rows_(table.rows()),
        g_(table, request),
        shift_(request.shift, g_.columns, g_.padded, g_.kernels.element_size),
        no_shift_(nullptr, g_.columns, g_.padded, g_.kernels.element_size),
        unit_shift_(round_up(g_.columns, 8) * 8) {
    if (request.unit_rows_are_shifted && request.shift != nullptr) {
      std::copy_n(request.shift, g_.columns, unit_shift_.as<double>());
    }
  }

  RowCounts run() {
    const Matrix& features = request_.features;
    const double operations =
        static_cast<double>(features.rows) * static_cast<double>(g_.columns) * static_cast<double>(g_.columns + 1);
    const int parts = parts_for(operations, features.rows, thread_count());
    const bool is_private = parts == 1 || parts * g_.tile_bytes() <= private_tile_bytes;
    std::vector<Workspace> spaces;
    for (int p = 0; p < (is_private ? parts : 1); ++p) spaces.emplace_back(g_, request_);
    if (is_private) {
      parallel_for(parts, [&](int p) { run_rows(spaces[p], share(features.rows, parts, p)); });
    } else {
      run_shared(spaces[0], parts);
    }
    RowCounts counts;
    for (const Workspace& space : spaces) merge(counts, space.counts);
    if (are_usable(counts)) add_results(spaces, parts);
    return counts;
  }

 private:
  void run_rows(Workspace& space, Range rows) const {
    for (std::int64_t first = rows.first; first < rows.last; first += gram_block_rows) {
      const Block block{first, std::min(gram_block_rows, rows.last - first)};
      const RowBlock source = space.reader.rows(request_.features, block.first, block.count, rows.last, space.counts);
      inspect_rows(space, block, source, {0, block.count}, &space.counts);
      process(space, block, source, 1);
    }
  }

  // All threads work on one block at a time: they pack different panels of it and then fill different tiles.
  void run_shared(Workspace& space, int parts) const {
    for (std::int64_t first = 0; first < request_.features.rows; first += gram_block_rows) {
      const Block block{first, std::min(gram_block_rows, request_.features.rows - first)};
      std::vector<RowCounts> counts(static_cast<std::size_t>(parts));
      const RowBlock source = gather_shared(space, block, parts, counts);
      parallel_for(parts, [&](int p) {
        inspect_rows(space, block, source, share(block.count, parts, p), &counts[static_cast<std::size_t>(p)]);
      });
      for (const RowCounts& part : counts) merge(space.counts, part);
      process(space, block, source, parts);
    }
  }

  RowBlock gather_shared(const Workspace& space, Block block, int parts, std::vector<RowCounts>& counts) const {
    const Matrix& features = request_.features;
    if (!needs_gathering(features)) return {features.row(block.first), features.row_stride};
    char* const target = space.reader.buffer();
    parallel_for(parts, [&](int p) {
      if (!features.is_in_file()) {
        return gather(features, block.first, block.count, share(g_.columns, parts, p), target);
      }
      const Range rows = share(block.count, parts, p);
      read_rows(features, block.first + rows.first, rows.last - rows.first, target + rows.first * features.row_bytes(),
                counts[static_cast<std::size_t>(p)]);
    });
    return {target, g_.columns};
  }

  // What is known of rows one by one: zero rows, norms, and their targets as float64.
  void inspect_rows(const Workspace& space, Block block, RowBlock source, Range rows, RowCounts* counts) const {
    const auto dtype = static_cast<int>(request_.features.dtype);
    const char* const data =
        static_cast<const char*>(source.rows) + rows.first * source.row_stride * size_of(request_.features.dtype);
    const std::int64_t count = rows.last - rows.first;
    rows_.count[dtype]({data, source.row_stride, count, g_.columns, block.first + rows.first, false, counts});
    if (request_.unit_gram != nullptr) {
      rows_.norms[dtype]({data, source.row_stride, count, g_.columns, unit_shift_.as<double>(),
                          space.norms.as<double>() + rows.first});
    }
    if (request_.cross != nullptr) load_targets(space, block, rows);
  }

  void load_targets(const Workspace& space, Block block, Range rows) const {
    const std::int64_t count = request_.targets.columns;
    for (std::int64_t r = rows.first; r < rows.last; ++r) {
      for (std::int64_t t = 0; t < count; ++t) {
        const double shift = request_.target_shift != nullptr ? request_.target_shift[t] : 0.0;
        space.targets.as<double>()[r * count + t] = element(request_.targets, block.first + r, t) - shift;
      }
    }
  }

  void process(Workspace& space, Block block, RowBlock source, int parts) const {
    pack(space, block, source, parts, shift_, nullptr);
    if (!has_finite_sums(space, block)) count_nonfinite(space, block, source);
    add_block_sums(space);
    if (request_.gram != nullptr) fill_tiles(space, block, parts, space.tiles);
    if (request_.cross != nullptr) fill_cross(space, block, parts);
    if (request_.unit_gram == nullptr) return;
    pack(space, block, source, parts, request_.unit_rows_are_shifted ? shift_ : no_shift_, space.norms.as<double>());
    std::memset(space.block_sums.get(), 0, static_cast<std::size_t>(g_.padded * g_.kernels.element_size));
    fill_tiles(space, block, parts, space.unit_tiles);
  }

  void pack(const Workspace& space, Block block, RowBlock source, int parts, const Shift& shift,
            const double* norms) const {
    parallel_for(parts, [&](int p) {
      const Range panels = share(g_.panels, parts, p);
      g_.kernels.pack[static_cast<int>(request_.features.dtype)](
          {source.rows, source.row_stride, block.count, g_.columns, panels.first, panels.last, shift.high.get(),
           shift.low.get(), norms, unit_shift_.as<double>(), space.packed.get(), space.block_sums.get()});
    });
  }

  void fill_tiles(const Workspace& space, Block block, int parts, const Buffer& tiles) const {
    parallel_for(parts, [&](int p) {
      const Range pairs = share(g_.pairs, parts, p);
      std::int64_t left =
          static_cast<std::int64_t>((std::sqrt(8.0 * static_cast<double>(pairs.first) + 1.0) - 1.0) / 2.0);
      while ((left + 1) * (left + 2) / 2 <= pairs.first) ++left;
      while (left * (left + 1) / 2 > pairs.first) --left;
      std::int64_t right = pairs.first - left * (left + 1) / 2;
      for (std::int64_t pair = pairs.first; pair < pairs.last; ++pair) {
        g_.kernels.tile(space.packed.get(), block.count, g_.columns, left, right,
                        tiles.as<double>() + pair * g_.tile_size);
        if (++right > left) {
          ++left;
          right = 0;
        }
      }
    });
  }

  void fill_cross(const Workspace& space, Block block, int parts) const {
    parallel_for(parts, [&](int p) {
      const Range panels = share(g_.panels, parts, p);
      g_.kernels.cross({space.packed.get(), block.count, panels.first, panels.last, space.targets.as<double>(),
                        request_.targets.columns, space.cross.as<double>(), g_.padded});
    });
  }

  // A non-finite value leaves its trace in the sum of its column, so that the check costs nothing per row.
  // Large finite values may do the same; count_nonfinite tells them apart.
  bool has_finite_sums(const Workspace& space, Block block) const {
    double trace = 0.0;
    for (std::int64_t c = 0; c < g_.columns; ++c) {
      trace += 0.0 * (g_.kernels.element_size == 8 ? space.block_sums.as<double>()[c]
                                                   : static_cast<double>(space.block_sums.as<float>()[c]));
    }
    if (request_.cross != nullptr) {
      const std::int64_t values = block.count * request_.targets.columns;
      for (std::int64_t i = 0; i < values; ++i) trace += 0.0 * space.targets.as<double>()[i];
    }
    return trace == 0.0;
  }

  void count_nonfinite(Workspace& space, Block block, RowBlock source) const {
    const auto dtype = request_.features.dtype;
    for (std::int64_t r = 0; r < block.count; ++r) {
      RowCounts row;
      const char* const data = static_cast<const char*>(source.rows) + r * source.row_stride * size_of(dtype);
      rows_.count[static_cast<int>(dtype)]({data, source.row_stride, 1, g_.columns, block.first + r, true, &row});
      bool finite = row.nonfinite == 0;
      for (std::int64_t t = 0; request_.cross != nullptr && t < request_.targets.columns; ++t) {
        finite = finite && std::isfinite(space.targets.as<double>()[r * request_.targets.columns + t]);
      }
      if (!finite) merge(space.counts, nonfinite_row(block.first + r));
    }
  }

  void add_block_sums(const Workspace& space) const {
    double* const totals = space.column_sums.as<double>();
    for (std::int64_t c = 0; c < g_.columns; ++c) {
      totals[c] += g_.kernels.element_size == 8 ? space.block_sums.as<double>()[c]
                                                : static_cast<double>(space.block_sums.as<float>()[c]);
    }
    std::memset(space.block_sums.get(), 0, static_cast<std::size_t>(g_.padded * g_.kernels.element_size));
  }

  void add_results(const std::vector<Workspace>& spaces, int parts) const {
    for (const Workspace& space : spaces) {
      for (std::int64_t c = 0; request_.column_sums != nullptr && c < g_.columns; ++c) {
        request_.column_sums[c] += space.column_sums.as<double>()[c];
      }
      for (std::int64_t t = 0; request_.cross != nullptr && t < request_.targets.columns; ++t) {
        for (std::int64_t c = 0; c < g_.columns; ++c) {
          request_.cross[t * g_.columns + c] += space.cross.as<double>()[t * g_.padded + c];
        }
      }
    }
    parallel_for(parts, [&](int p) {
      const Range rows = share(g_.columns, parts, p);
      for (std::int64_t i = rows.first; i < rows.last; ++i) {
        for (const Workspace& space : spaces) {
          if (request_.gram != nullptr) add_tile_row(space.tiles, i, request_.gram);
          if (request_.unit_gram != nullptr) add_tile_row(space.unit_tiles, i, request_.unit_gram);
        }
      }
    });
  }

  void add_tile_row(const Buffer& tiles, std::int64_t i, double* gram) const {
    const std::int64_t width = g_.kernels.panel_width;
    const std::int64_t left = i / width;
    for (std::int64_t right = 0; right <= left; ++right) {
      const double* const tile =
          tiles.as<double>() + (left * (left + 1) / 2 + right) * g_.tile_size + i % width * width;
      const std::int64_t first = right * width;
      for (std::int64_t j = first; j < std::min(first + width, i + 1); ++j) gram[i * g_.columns + j] += tile[j - first];
    }
  }

  const GramRequest& request_;
  const RowKernels& rows_;
  Geometry g_;
  Shift shift_;
  Shift no_shift_;
  Buffer unit_shift_;
};

}  // namespace

RowCounts gram(const GramRequest& request) {
  if (request.features.rows == 0 || request.features.columns == 0) return {};
  return GramPass(current_kernels(), request).run();
}

}  // namespace nrc_fast
