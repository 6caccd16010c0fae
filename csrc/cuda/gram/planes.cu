// Rows as planes of 16-bit numbers for the tensor cores: copied, rounded to bfloat16, or split into three bfloat16
// numbers whose sum is the row to 24 bits. One thread for each eight columns of a row.
#include "cuda/gram/prepare.h"

namespace nrc_fast::cuda {
namespace {

constexpr int plane_threads = 256;
constexpr std::int64_t bytes_at_once = std::int64_t{256} << 20;

struct PlaneArguments {
  ScaledRows source;
  std::uint16_t* planes;
  std::int64_t row_stride;
  std::int64_t plane_stride;
};

struct alignas(16) Chunk {
  std::uint16_t bits[chunk_columns];
};

NRC_FAST_DEVICE std::uint16_t stored_bits(Float16 value) { return value.bits; }
NRC_FAST_DEVICE std::uint16_t stored_bits(BFloat16 value) { return value.bits; }

// What is left of a value without its nearest bfloat16, which becomes `bits`.
NRC_FAST_DEVICE float split_off(float value, std::uint16_t& bits) {
  bits = nearest_bfloat16(value);
  return value - as_float(BFloat16{bits});
}

template <class Row, PlaneContent content>
NRC_FAST_GLOBAL(plane_threads, 2)
planes_kernel(PlaneArguments arguments) {
  constexpr int parts = content == PlaneContent::split ? 3 : 1;
  const MatrixView& rows = arguments.source.rows;
  const std::int64_t row_chunks = arguments.row_stride / chunk_columns;
  const std::int64_t step = grid_size() * plane_threads;
  for (std::int64_t index = block_index() * plane_threads + thread_index(); index < rows.rows * row_chunks;
       index += step) {
    const std::int64_t row = index / row_chunks;
    const std::int64_t first = index % row_chunks * chunk_columns;
    Row stored[chunk_columns];
    double shifts[chunk_columns];
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      // All loads first, and none in a branch: what is beyond the last column is not used.
      const std::int64_t column = first + i < rows.columns ? first + i : rows.columns - 1;
      stored[i] = stored_value<Row>(rows, row, column);
      shifts[i] = arguments.source.shift == nullptr ? 0.0 : arguments.source.shift[column];
    }
    Chunk chunks[parts];
#pragma unroll
    for (int i = 0; i < chunk_columns; ++i) {
      const bool is_there = first + i < rows.columns;
#pragma unroll
      for (int part = 0; part < parts; ++part) chunks[part].bits[i] = 0;
      if constexpr (content == PlaneContent::copied) {
        chunks[0].bits[i] = is_there ? stored_bits(stored[i]) : std::uint16_t{0};
      } else {
        const double value = scaled(arguments.source, row, as_double(stored[i]) - shifts[i]);
        float rest = split_off(is_there ? static_cast<float>(value) : 0.0f, chunks[0].bits[i]);
        if constexpr (parts == 3) {
          rest = split_off(rest, chunks[1].bits[i]);
          split_off(rest, chunks[2].bits[i]);
        }
      }
    }
#pragma unroll
    for (int part = 0; part < parts; ++part) {
      std::uint16_t* const target =
          arguments.planes + part * arguments.plane_stride + row * arguments.row_stride + first;
      *static_cast<Chunk*>(static_cast<void*>(target)) = chunks[part];
    }
  }
}

template <class Row>
void launch_planes(PlaneContent content, const PlaneArguments& arguments, Grid grid, Stream stream) {
  if (content == PlaneContent::split) {
    launch(planes_kernel<Row, PlaneContent::split>, "planes", grid, plane_threads, 0, stream, arguments);
  } else if (content == PlaneContent::rounded) {
    launch(planes_kernel<Row, PlaneContent::rounded>, "planes", grid, plane_threads, 0, stream, arguments);
  } else if constexpr (sizeof(Row) == 2) {
    launch(planes_kernel<Row, PlaneContent::copied>, "planes", grid, plane_threads, 0, stream, arguments);
  }
}

}  // namespace

int plane_count(GramMethod method) { return method == GramMethod::tensor_split ? 3 : 1; }

std::int64_t plane_row_stride(const MatrixView& rows) { return round_up(rows.columns, chunk_columns); }

std::int64_t plane_rows(const MatrixView& rows, GramMethod method, std::int64_t wanted) {
  const std::int64_t row_bytes = plane_row_stride(rows) * 2 * plane_count(method);
  const std::int64_t most = bytes_at_once / row_bytes / 8192 * 8192;
  const std::int64_t at_once = wanted > 0 ? wanted : (most < 8192 ? 8192 : most);
  return rows.rows < at_once ? rows.rows : round_up(at_once, mask_rows);
}

void write_planes(const ScaledRows& rows, PlaneContent content, std::uint16_t* planes, std::int64_t row_stride,
                  std::int64_t plane_stride, std::int64_t multiprocessors, Stream stream) {
  if (rows.rows.rows == 0) return;
  const PlaneArguments arguments{rows, planes, row_stride, plane_stride};
  const std::int64_t wanted = ceiling(rows.rows.rows * (row_stride / chunk_columns), plane_threads);
  const std::int64_t filling = multiprocessors * 16;
  const Grid grid{static_cast<unsigned>(wanted < filling ? wanted : filling)};
  with_row_type(rows.rows.dtype, [&](auto row) { launch_planes<decltype(row)>(content, arguments, grid, stream); });
}

}  // namespace nrc_fast::cuda
