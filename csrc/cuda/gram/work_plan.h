// How the lower triangle of a Gram matrix is shared out: square tiles times blocks of rows, in equal parts for a fixed
// number of workers. A worker's part is a list of segments, each of one tile and a range of rows; its sums go to a
// slab of its own, and the slabs of a tile are added in the order of their rows. Nothing depends on timing.
//
// The parts come from Euclid's algorithm on (tiles, workers). While there are at least as many tiles as workers,
// every worker takes whole tiles; then groups of workers, one for each tile left, take equal ranges of rows, and the
// workers left over share the remaining rows by the same rule. Workers that run at the same time thus read the same
// rows, which the cache of the device serves. Positions are kept in units in which every length is whole: the rows
// are `workers` long, and the time of every worker is `tiles`.
#pragma once

#include <cstdint>

#include "common/portable.h"

namespace nrc_fast {

struct TilePosition {
  std::int64_t row;
  std::int64_t column;
};

NRC_FAST_BOTH std::int64_t lower_tiles(std::int64_t tile_rows) { return tile_rows * (tile_rows + 1) / 2; }

// The tiles of the lower triangle, row by row.
NRC_FAST_BOTH TilePosition tile_position(std::int64_t index) {
  std::int64_t low = 0;
  std::int64_t high = std::int64_t{1} << 31;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (lower_tiles(middle) <= index ? low : high) = middle;
  }
  return {low, index - lower_tiles(low)};
}

struct WorkPlan {
  std::int64_t tiles;
  std::int64_t workers;
  std::int64_t blocks;  // of rows

  // The block at a position, 0..workers, without overflow for any number of blocks.
  NRC_FAST_BOTH std::int64_t block_at(std::int64_t position) const {
    return blocks / workers * position + blocks % workers * position / workers;
  }
};

struct Segment {
  std::int64_t tile;
  std::int64_t first_block;
  std::int64_t last_block;
  std::int64_t slab;
};

// One level of Euclid's algorithm: what is left of the tiles, workers, rows and time. Both products
// tile_count * row_length and worker_count * time are the work that is left.
struct PlanLevel {
  std::int64_t first_tile;
  std::int64_t tile_count;
  std::int64_t first_worker;
  std::int64_t worker_count;
  std::int64_t row_start;
  std::int64_t row_length;
  std::int64_t time;
  std::int64_t ordinal;  // segments that each of these workers has had

  NRC_FAST_BOTH explicit PlanLevel(const WorkPlan& plan)
      : first_tile(0),
        tile_count(plan.tiles),
        first_worker(0),
        worker_count(plan.workers),
        row_start(0),
        row_length(plan.workers),
        time(plan.tiles),
        ordinal(0) {}

  NRC_FAST_BOTH bool is_empty() const { return tile_count <= 0 || worker_count <= 0; }
  NRC_FAST_BOTH bool has_sweeps() const { return time > row_length; }
  // Tiles that every worker takes over all rows that are left.
  NRC_FAST_BOTH std::int64_t sweeps() const { return time / row_length; }
  // Groups of workers that each take every tile over a range of `time` rows.
  NRC_FAST_BOTH std::int64_t groups() const { return worker_count / tile_count; }

  NRC_FAST_BOTH void finish_sweeps() {
    const std::int64_t count = sweeps();
    first_tile += count * worker_count;
    tile_count -= count * worker_count;
    time -= count * row_length;
    ordinal += count;
  }

  NRC_FAST_BOTH void finish_groups() {
    const std::int64_t count = groups();
    first_worker += count * tile_count;
    worker_count -= count * tile_count;
    row_start += count * time;
    row_length -= count * time;
  }
};

// Slabs are numbered by the ordinals of the workers' segments first.
NRC_FAST_BOTH std::int64_t slab_index(const WorkPlan& plan, std::int64_t worker, std::int64_t ordinal) {
  return ordinal * plan.workers + worker;
}

// Segment `ordinal` of a worker, in the order of its work; false when it has fewer. Segments may be without blocks.
// A function without memory, so that a kernel keeps nothing but the ordinal while it works.
NRC_FAST_BOTH bool find_segment(const WorkPlan& plan, std::int64_t worker, std::int64_t ordinal, Segment& segment) {
  PlanLevel level(plan);
  while (!level.is_empty()) {
    const std::int64_t index = worker - level.first_worker;
    const std::int64_t later = ordinal - level.ordinal;
    const bool is_in_group = !level.has_sweeps() && index < level.groups() * level.tile_count;
    if (is_in_group && later > 0) return false;
    if (is_in_group || (level.has_sweeps() && later < level.sweeps())) {
      const std::int64_t group = is_in_group ? index / level.tile_count : 0;
      const std::int64_t length = is_in_group ? level.time : level.row_length;
      const std::int64_t start = level.row_start + group * length;
      const std::int64_t tile = is_in_group ? index % level.tile_count : later * level.worker_count + index;
      segment = {level.first_tile + tile, plan.block_at(start), plan.block_at(start + length),
                 slab_index(plan, worker, ordinal)};
      return true;
    }
    if (level.has_sweeps()) {
      level.finish_sweeps();
    } else {
      level.finish_groups();
    }
  }
  return false;
}

// Slabs of one tile at equal distances, of successive ranges of rows.
struct SlabRun {
  std::int64_t first;
  std::int64_t step;
  std::int64_t count;
  std::int64_t row_start;  // of the first range, and the length of each, as positions of the plan
  std::int64_t row_length;

  NRC_FAST_BOTH std::int64_t slab(std::int64_t index) const { return first + index * step; }
  NRC_FAST_BOTH bool has_blocks(const WorkPlan& plan, std::int64_t index) const {
    const std::int64_t start = row_start + index * row_length;
    return plan.block_at(start) < plan.block_at(start + row_length);
  }
  // Where every range is as long as a block, whatever the rounding, none has to be asked.
  NRC_FAST_BOTH bool all_have_blocks(const WorkPlan& plan) const {
    return plan.blocks / plan.workers >= 1 || plan.blocks % plan.workers * row_length >= plan.workers;
  }
};

// The slabs of one tile, in the order of their rows.
class SlabWalk {
 public:
  NRC_FAST_BOTH SlabWalk(const WorkPlan& plan, std::int64_t tile) : plan_(plan), level_(plan), tile_(tile) {}

  NRC_FAST_BOTH bool next(SlabRun& run) {
    while (!level_.is_empty()) {
      const std::int64_t index = tile_ - level_.first_tile;
      if (level_.has_sweeps()) {
        if (index < level_.sweeps() * level_.worker_count) {
          run = {slab_index(plan_, level_.first_worker + index % level_.worker_count,
                            level_.ordinal + index / level_.worker_count),
                 0, 1, level_.row_start, level_.row_length};
          level_.tile_count = 0;
          return true;
        }
        level_.finish_sweeps();
      } else {
        run = {slab_index(plan_, level_.first_worker + index, level_.ordinal), level_.tile_count, level_.groups(),
               level_.row_start, level_.time};
        level_.finish_groups();
        if (run.count > 0) return true;
      }
    }
    return false;
  }

 private:
  WorkPlan plan_;
  PlanLevel level_;
  std::int64_t tile_;
};

// The last worker has the most segments.
NRC_FAST_BOTH std::int64_t slab_count(const WorkPlan& plan) {
  Segment segment{};
  std::int64_t count = 0;
  while (find_segment(plan, plan.workers - 1, count, segment)) ++count;
  return count * plan.workers;
}

}  // namespace nrc_fast
