// Products of packed panels: tiles of the Gram matrix, and the cross moments with the targets.
#pragma once

#include "cpu/gram/panel.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr std::int64_t line_bytes = 64;

// How elements of a panel are multiplied, and what their products are added up in.
template <class T>
struct Products {
  using Sum = T;
  static NRC_FAST_INLINE Native<T> added(Native<T> sum, const T& left, Native<T> right) { return sum + left * right; }
};

// Rows of a panel whose products are added up one after the other, as rounding grows with them: all of a block, or as
// many as this.
template <class T>
struct Chain {
  static constexpr std::int64_t rows = 0;
};
template <>
struct Chain<double> {
  static constexpr std::int64_t rows = 64;
};

// tile[r][c] += sum over rows k of left[k][r] * right[k][c], in registers, then added to float64, or put in place of
// what was there. The products leave the memory idle: with every two rows something is fetched, first of the rows that
// come next, at last of the tile.
template <class T, int rows, int vectors>
NRC_FAST_INLINE void accumulate_tile(std::int64_t row_count, const T* left, int left_width, const T* right,
                                     int right_width, double* tile, bool is_first, RowsAhead& ahead,
                                     std::int64_t ahead_bytes) {
  constexpr int width = panel_width<T>;
  // Few sums would wait for one another: then every other row has its own.
  constexpr int sets = rows * vectors < 8 ? 2 : 1;
  Native<typename Products<T>::Sum> sums[sets][rows][vectors] = {};
  const auto add_row = [&](int set) __attribute__((always_inline)) {
    Native<T> values[vectors];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      values[v] = load<Native<T>>(right + v * lanes<T>);
      keep_in_register(values[v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) {
        sums[set][r][v] = Products<T>::added(sums[set][r][v], left[r], values[v]);
        keep_in_register(sums[set][r][v]);
      }
    }
    left += left_width;
    right += right_width;
  };
  const auto add_rows = [&](std::int64_t count, const char* line, std::int64_t step) __attribute__((always_inline)) {
    for (; count >= 2; count -= 2, line += step) {
      __builtin_prefetch(line);
      add_row(0);
      add_row(sets - 1);
    }
    if (count == 1) add_row(0);
  };

  // Only a strip of full width is one piece of memory.
  constexpr std::int64_t tile_lines = vectors == panel_vectors ? rows * width * std::int64_t{8} / line_bytes : 0;
  const std::int64_t last_rows = row_count >= 4 * tile_lines ? 2 * tile_lines : 0;
  const std::int64_t steps = (row_count - last_rows) / 2;
  const std::int64_t step = steps > 0 ? (ahead_bytes + steps - 1) / steps : 0;
  add_rows(row_count - last_rows, step > 0 ? ahead.next : reinterpret_cast<const char*>(left), step);
  ahead.next += steps * step;
  add_rows(last_rows, reinterpret_cast<const char*>(tile), line_bytes);
  const auto put = [&](auto adds) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) {
        if constexpr (sets == 2) sums[0][r][v] += sums[1][r][v];
        put_widened<decltype(adds)::value>(tile + r * width + v * lanes<T>, sums[0][r][v]);
      }
    }
  };
  if (is_first) {
    put(Constant<false>{});
  } else {
    put(Constant<true>{});
  }
}

// Sums over chains of rows are added up in float64, and then to the tile.
template <class T, int rows, int vectors>
NRC_FAST_INLINE void accumulate_chains(const TileArguments& task, const T* left, int left_width, const T* right,
                                       int right_width, double* strip, RowsAhead& ahead, std::int64_t ahead_bytes) {
  constexpr int width = panel_width<T>;
  constexpr std::int64_t chained_rows = Chain<T>::rows;
  double sums[rows * width];
  const bool is_one_chain = task.row_count <= chained_rows;
  double* const target = is_one_chain ? strip : sums;
  const std::int64_t share = is_one_chain ? ahead_bytes : ahead_bytes * chained_rows / task.row_count;
  std::int64_t row = 0;
  do {  // once for no rows, which put zeros
    const std::int64_t left_over = task.row_count - row;
    const std::int64_t count = left_over < chained_rows ? left_over : chained_rows;
    accumulate_tile<T, rows, vectors>(count, left + row * left_width, left_width, right + row * right_width,
                                      right_width, target, is_one_chain ? task.is_first : row == 0, ahead, share);
    row += count;
  } while (row < task.row_count);
  if (is_one_chain) return;
  for (int r = 0; r < rows; ++r) {
    for (int c = r * width; c < r * width + vectors * lanes<T>; c += lanes<double>) {
      const auto found = load<Native<double>>(sums + c);
      store(strip + c, task.is_first ? found : load<Native<double>>(strip + c) + found);
    }
  }
}

template <class T, int rows, int vectors>
NRC_FAST_INLINE void accumulate_strip(const TileArguments& task, const T* left, int left_width, const T* right,
                                      int right_width, double* strip, RowsAhead& ahead, std::int64_t ahead_bytes) {
  if constexpr (Chain<T>::rows > 0) {
    accumulate_chains<T, rows, vectors>(task, left, left_width, right, right_width, strip, ahead, ahead_bytes);
  } else {
    accumulate_tile<T, rows, vectors>(task.row_count, left, left_width, right, right_width, strip, task.is_first, ahead,
                                      ahead_bytes);
  }
}

// One pair of panels: the strip of the left one that holds real columns against the needed vectors of the right one.
template <class T>
void gram_tile(const TileArguments& task, RowsAhead& ahead) {
  constexpr int width = panel_width<T>;
  constexpr int rows = tile_rows<T>;
  static_assert(width % rows == 0 && panel_step<T> % rows == 0, "a strip would leave its tile or its panel");
  const bool is_diagonal = task.left_panel == task.right_panel;
  const int left_width = width_of<T>(task.left_panel, task.columns);
  const int right_width = width_of<T>(task.right_panel, task.columns);
  const T* const left = static_cast<const T*>(task.packed) + offset_of<T>(task.left_panel, task.row_count);
  const T* const right = static_cast<const T*>(task.packed) + offset_of<T>(task.right_panel, task.row_count);
  const std::int64_t strips = left_width / rows;
  for (int first = 0; first < width && task.left_panel * width + first < task.columns; first += rows) {
    const std::int64_t left_over = ahead.last - ahead.next;
    const std::int64_t share = (ahead.tile_bytes + strips - 1) / strips;
    const std::int64_t ahead_bytes = share < left_over ? share : (left_over > 0 ? left_over : 0);
    // On the diagonal only the columns up to the last row of the strip are below it.
    const int needed = is_diagonal ? first + rows : width;
    const int vectors = (needed + lanes<T> - 1) / lanes<T>;
    double* const strip = task.tile + first * width;
    if (vectors == 1) {
      accumulate_strip<T, rows, 1>(task, left + first, left_width, right, right_width, strip, ahead, ahead_bytes);
    } else if (vectors == 2) {
      accumulate_strip<T, rows, 2>(task, left + first, left_width, right, right_width, strip, ahead, ahead_bytes);
    } else {
      accumulate_strip<T, rows, panel_vectors>(task, left + first, left_width, right, right_width, strip, ahead,
                                               ahead_bytes);
    }
  }
}

// cross[t][c] += sum over rows of targets[k][t] * features[k][c], for up to four targets, all in float64.
template <class T, int count, int vectors>
NRC_FAST_INLINE void cross_strip(const CrossArguments& task, const T* features, int width, const double* targets,
                                 double* cross) {
  constexpr int N = lanes<double>;
  Native<double> totals[count][vectors] = {};
  for (std::int64_t k = 0; k < task.row_count;) {
    const std::int64_t last = k + Chain<double>::rows < task.row_count ? k + Chain<double>::rows : task.row_count;
    Native<double> sums[count][vectors] = {};
    for (; k < last; ++k, features += width, targets += task.target_count) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) {
        const auto value = widen(load<Vector<T, N>>(features + v * N));
#pragma GCC unroll 4
        for (int t = 0; t < count; ++t) sums[t][v] += targets[t] * value;
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < count; ++t) {
#pragma GCC unroll 3
      for (int v = 0; v < vectors; ++v) totals[t][v] += sums[t][v];
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < count; ++t) {
#pragma GCC unroll 3
    for (int v = 0; v < vectors; ++v) {
      double* const target = cross + t * task.cross_stride + v * N;
      store(target, load<Native<double>>(target) + totals[t][v]);
    }
  }
}

template <class T, int vectors>
NRC_FAST_INLINE void cross_columns(const CrossArguments& task, const T* features, int width, double* cross) {
  std::int64_t t = 0;
  for (; t + 4 <= task.target_count; t += 4) {
    cross_strip<T, 4, vectors>(task, features, width, task.targets + t, cross + t * task.cross_stride);
  }
  const std::int64_t left = task.target_count - t;
  double* const rest = cross + t * task.cross_stride;
  if (left == 3) cross_strip<T, 3, vectors>(task, features, width, task.targets + t, rest);
  if (left == 2) cross_strip<T, 2, vectors>(task, features, width, task.targets + t, rest);
  if (left == 1) cross_strip<T, 1, vectors>(task, features, width, task.targets + t, rest);
}

template <class T>
void cross_moments(const CrossArguments& task) {
  constexpr int N = lanes<double>;
  constexpr int chunk = panel_vectors * N;
  for (std::int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
    const int width = width_of<T>(panel, task.columns);
    const T* const features = static_cast<const T*>(task.packed) + offset_of<T>(panel, task.row_count);
    double* const cross = task.cross + panel * panel_width<T>;
    int offset = 0;
    for (; offset + chunk <= width; offset += chunk) {
      cross_columns<T, panel_vectors>(task, features + offset, width, cross + offset);
    }
    for (; offset < width; offset += N) cross_columns<T, 1>(task, features + offset, width, cross + offset);
  }
}

}  // namespace nrc_fast::NRC_FAST_ISA
