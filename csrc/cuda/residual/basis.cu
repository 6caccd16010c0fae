// Prepares the basis of a residual pass: padded, in the type that is computed with and, for tensor cores, in fragments.
#include <type_traits>

#include "cuda/residual/basis.h"

namespace nrc_fast::cuda {
namespace {

constexpr int basis_threads = 128;
constexpr int scale_threads = 256;

template <class T>
NRC_FAST_DEVICE T* at(char* memory, std::int64_t offset) {
  return static_cast<T*>(static_cast<void*>(memory + offset));
}

union DoubleBits {
  std::uint64_t bits;
  double value;
};

NRC_FAST_DEVICE double power_of_two(int exponent) {
  DoubleBits result;
  result.bits = static_cast<std::uint64_t>(exponent + 1023) << 52;
  return result.value;
}

NRC_FAST_DEVICE double larger(double one, double other) { return other > one ? other : one; }

// Powers of two that bring the largest number of a vector to 2^14, so that float16 holds two times 11 bits of it, and
// of what is far smaller as much as matters beside it.
NRC_FAST_GLOBAL(scale_threads, 1)
basis_scales_kernel(BasisTask task) {
  double* const shared = at<double>(shared_memory(), 0);
  const std::int64_t vector = block_index();
  double largest = 0.0;
  if (vector < task.count) {
#pragma unroll 4
    for (std::int64_t c = thread_index(); c < task.columns; c += scale_threads) {
      const double number = task.vectors[vector * task.columns + c];
      largest = larger(largest, number < 0.0 ? -number : number);
    }
  }
#pragma unroll
  for (int mask = 1; mask < warp_lanes; mask *= 2) largest = larger(largest, shuffle_xor(largest, mask));
  if (thread_index() % warp_lanes == 0) shared[thread_index() / warp_lanes] = largest;
  synchronize_block();
  if (thread_index() != 0) return;
  for (int w = 1; w < scale_threads / warp_lanes; ++w) largest = larger(largest, shared[w]);
  DoubleBits bits;
  bits.value = largest;
  int exponent = static_cast<int>(bits.bits >> 52 & 0x7ff) - 1023 - 14;
  exponent = exponent < -1000 ? -1000 : (exponent > 1000 ? 1000 : exponent);
  task.inverse_scales[vector] = largest > 0.0 ? power_of_two(exponent) : 1.0;
}

// Nearest float16, ties to even; NaN stays NaN.
NRC_FAST_DEVICE std::uint16_t nearest_float16(float value) {
  FloatBits parts;
  parts.value = value;
  const std::uint32_t sign = parts.bits >> 16 & 0x8000u;
  parts.bits &= 0x7fffffffu;
  std::uint32_t rounded = (parts.bits - (112u << 23) + 0xfffu + (parts.bits >> 13 & 1u)) >> 13;
  if (parts.bits >= 0x477ff000u) rounded = parts.bits > 0x7f800000u ? 0x7e00u : 0x7c00u;
  if (parts.bits < 0x38800000u) {
    // A unit of the smallest numbers is that of float32 beside a half.
    parts.value += 0.5f;
    rounded = parts.bits - 0x3f000000u;
  }
  return static_cast<std::uint16_t>(sign | rounded);
}

struct alignas(8) FourNumbers {
  std::uint16_t values[4];
};

// All parts of what one lane has of one vector in one step.
template <FragmentKind kind>
NRC_FAST_DEVICE void write_fragments(const BasisTask& task, std::int64_t index) {
  const FragmentLayout& layout = task.layout;
  const int lane = static_cast<int>(index % warp_lanes);
  const std::int64_t eight = index / warp_lanes % layout.wide;
  const std::int64_t record = index / warp_lanes / layout.wide;
  const std::int64_t step = record % layout.steps;
  const std::int64_t vector = (record / layout.steps * layout.wide + eight) * 8 + lane / 4;
  const std::int64_t first_column = step * 4 * layout.lane_columns;
  char* const target = task.records + record * layout.record_bytes() + eight * layout.fragments() * (warp_lanes * 16);
  double numbers[8];
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const std::int64_t column = first_column + layout.column(lane, e);
    const bool is_there = e < layout.lane_columns && column < task.columns && vector < task.count;
    numbers[e] = is_there ? task.vectors[vector * task.columns + column] : 0.0;
  }
  if constexpr (kind == FragmentKind::float64) {
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      if (e >= layout.lane_columns) continue;
      double* const pair = at<double>(target, e / 2 * (warp_lanes * 16) + lane * 16);
      pair[0] = numbers[e];
      pair[1] = numbers[e + 1];
    }
  } else {
    double scale = 1.0;
    if constexpr (kind == FragmentKind::float16) scale = 1.0 / task.inverse_scales[vector];
    constexpr int parts = kind == FragmentKind::float16 ? 2 : 3;
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      FourNumbers halves[2];
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const auto number = static_cast<float>(numbers[e] * scale);
        std::uint16_t& rounded = halves[e / 4].values[e % 4];
        if constexpr (kind == FragmentKind::float16) {
          rounded = nearest_float16(number);
          numbers[e] = numbers[e] * scale - as_double(Float16{rounded});
        } else {
          rounded = nearest_bfloat16(number);
          numbers[e] = numbers[e] * scale - as_double(BFloat16{rounded});
        }
      }
      scale = 1.0;
      const bool is_apart = layout.fragment_columns == 4;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *at<FourNumbers>(target, p * (warp_lanes * 16) + (is_apart ? h * warp_lanes + lane : lane * 2 + h) *
                                                             static_cast<std::int64_t>(sizeof(FourNumbers))) =
            halves[h];
      }
    }
  }
}

// One number of the shift, in the records of all groups.
NRC_FAST_DEVICE void write_shift(const BasisTask& task, std::int64_t index) {
  const FragmentLayout& layout = task.layout;
  const int lane = static_cast<int>(index % 4);
  const int element = static_cast<int>(index / 4 % layout.lane_columns);
  const std::int64_t step = index / 4 / layout.lane_columns;
  const std::int64_t column = step * 4 * layout.lane_columns + layout.column(lane, element);
  for (std::int64_t group = 0; group < layout.groups; ++group) {
    char* const target =
        task.records + (group * layout.steps + step + 1) * layout.record_bytes() - layout.shift_bytes();
    if (layout.kind == FragmentKind::float64) {
      at<double>(target, (element / 2 * 4 + lane) * 16)[element % 2] =
          column_shift<double>(task.shift, column, task.columns).high;
    } else {
      const HighAndLow<float> shift = column_shift<float>(task.shift, column, task.columns);
      at<float>(target, (element / 4 * 4 + lane) * 16)[element % 4] = shift.high;
      at<float>(target, layout.shift_bytes() / 2 + (element / 4 * 4 + lane) * 16)[element % 4] = shift.low;
    }
  }
}

template <class Value, FragmentKind kind>
NRC_FAST_GLOBAL(basis_threads, 4)
basis_kernel(BasisTask task) {
  const std::int64_t first = block_index() * basis_threads + thread_index();
  const std::int64_t stride = grid_size() * basis_threads;
  const std::int64_t padded_columns = round_up(task.columns, step_columns);
  const std::int64_t plain = task.plain == nullptr ? 0 : plain_basis_size(task.count, task.columns);
  for (std::int64_t index = first; index < plain; index += stride) {
    const std::int64_t vector = index / padded_columns;
    const std::int64_t column = index % padded_columns;
    const bool is_there = vector < task.count && column < task.columns;
    const double number = is_there ? task.vectors[vector * task.columns + column] : 0.0;
    static_cast<Value*>(
        task.plain)[(vector / group_vectors * padded_columns + column) * group_vectors + vector % group_vectors] =
        static_cast<Value>(number);
  }
  if constexpr (kind != FragmentKind::none) {
    const FragmentLayout& layout = task.layout;
    const std::int64_t fragments = layout.groups * layout.steps * layout.wide * warp_lanes;
    for (std::int64_t index = first; index < fragments; index += stride) write_fragments<kind>(task, index);
    const std::int64_t shifts = layout.has_shift ? layout.steps * layout.lane_columns * 4 : 0;
    for (std::int64_t index = first; index < shifts; index += stride) write_shift(task, index);
  }
}

template <class Value, FragmentKind kind>
void launch_basis(const BasisTask& task, Stream stream) {
  const std::int64_t blocks = ceiling(plain_basis_size(task.count, task.columns), basis_threads * 4);
  launch(basis_kernel<Value, kind>, "residual_basis", {static_cast<unsigned>(blocks < 4096 ? blocks : 4096)},
         basis_threads, 0, stream, task);
}

}  // namespace

void prepare_basis(const BasisTask& task, Stream stream) {
  switch (task.layout.kind) {
    case FragmentKind::none:
      return task.is_double ? launch_basis<double, FragmentKind::none>(task, stream)
                            : launch_basis<float, FragmentKind::none>(task, stream);
    case FragmentKind::float64:
      return launch_basis<double, FragmentKind::float64>(task, stream);
    case FragmentKind::float16:
      launch(basis_scales_kernel, "residual_basis_scales",
             {static_cast<unsigned>(task.layout.groups * task.layout.wide * 8)}, scale_threads,
             scale_threads / warp_lanes * static_cast<std::int64_t>(sizeof(double)), stream, task);
      return launch_basis<float, FragmentKind::float16>(task, stream);
    default:
      return launch_basis<float, FragmentKind::bfloat16>(task, stream);
  }
}

}  // namespace nrc_fast::cuda
