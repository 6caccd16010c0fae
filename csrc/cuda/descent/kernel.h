// All steps of one problem by one block: the algorithm of csrc/cpu/descent/kernel.h, whose names these are.
//
// A step is three products of a few outputs with a matrix of about d x d, and a barrier after each of them:
//   P = Q K,    G = T P^T with the new W and b,    the new T and, in the same read, Q = W T + [0 -I b].
// A warp takes a patch of 4 rows x 8 columns of the matrix at a time, so that sums over rows or columns need no more
// than two or three exchanges between lanes and no other warp. With rows of 8 x (an odd number) of elements the patch
// lies in all banks of shared memory once, and in global memory each of its rows is one or two whole sectors.
//
// What bounds a step: it reads K once and T twice, and writes T once, which in float64 is 8 clocks of shared memory for
// every 32 elements, and 2 n clocks of multiply-adds; so up to some four outputs the former, and beyond them the
// latter, which is why tensor cores, whose tiles have eight outputs, are left out. States that do not fit in shared
// memory are read from L2, at a third of that speed or less. Subnormal numbers cost nothing on a device, and stay.
#pragma once

#include "cuda/descent/arguments.h"
#include "cuda/machine/fragments.h"

namespace nrc_fast::cuda {

constexpr int rows_in_flight = 4;  // of each lane: loads that are under way together
constexpr int most_outputs = 4;    // whose sums a lane holds
constexpr int product_rows = 2;    // of each lane, in products along rows

// `is_resident`: everything lies in shared memory, which the compiler then knows. What can be had from the arguments is
// asked for every time: they lie in constant memory, and registers are short.
template <class T, bool is_resident>
class DescentProblem {
 public:
  NRC_FAST_DEVICE DescentProblem(const DescentArguments& arguments, std::int64_t problem)
      : arguments_(arguments), problem_(problem) {
    const DescentRequest& request = arguments.request;
    const bool has_velocities = request.transform_velocities != nullptr;
    has_momentum_ = has_velocities && rate(momentum) != T(0);

    T* free = static_cast<T*>(static_cast<void*>(shared_memory()));
    const auto next = [&](std::int64_t elements) {
      T* const piece = free;
      free += elements;
      return piece;
    };
    const bool is_shared = is_resident || arguments.scratch_is_shared;
    T* const workspace = static_cast<T*>(static_cast<void*>(request.workspace));
    scratch_ = is_shared ? next(arguments.scratch_elements) : workspace + block_index() * arguments.scratch_elements;
    const std::int64_t state = d() * arguments.stride;
    transform_ = is_resident || arguments.transforms_are_shared ? next(state) : stored_transform();
    const bool moves = is_resident ? has_velocities : arguments.velocities_are_shared;
    velocity_ = moves ? next(state) : stored_velocity();
    moments_ = is_resident || arguments.moments_are_shared ? next(used() * arguments.stride) : stored_moments();
  }

  NRC_FAST_DEVICE void run(std::int64_t steps) {
    load();
    synchronize_block();
    start();
    synchronize_block();
    for (std::int64_t step = 0; step < steps; ++step) {
      compute_image();
      synchronize_block();
      step_weights();
      step_bias();
      synchronize_block();
      step_transform();
      synchronize_block();
    }
    save();
  }

 private:
  NRC_FAST_DEVICE static int lane_row() { return thread_index() % warp_lanes / patch_columns; }
  NRC_FAST_DEVICE static int lane_column() { return thread_index() % patch_columns; }
  NRC_FAST_DEVICE static int warp() { return thread_index() / warp_lanes; }
  NRC_FAST_DEVICE int warps() const { return arguments_.threads / warp_lanes; }

  NRC_FAST_DEVICE std::int64_t d() const { return arguments_.request.d; }
  NRC_FAST_DEVICE std::int64_t n() const { return arguments_.request.n; }
  NRC_FAST_DEVICE std::int64_t used() const { return d() + n() + 1; }  // columns of T

  // Asked for in every phase of a step, for the same reason.
  enum Rate { weight_rate, feature_rate, bias_rate, weight_penalty, feature_penalty, bias_penalty, momentum };
  NRC_FAST_DEVICE T rate(Rate which) const {
    return static_cast<T>(arguments_.request.rates[problem_ * descent_rate_count + which]);
  }

  // ---- where things are: in the caller's memory, and during the steps ----

  NRC_FAST_DEVICE std::int64_t stored_size() const { return d() * arguments_.request.stride; }
  NRC_FAST_DEVICE T* stored_transform() const {
    return static_cast<T*>(arguments_.request.transforms) + problem_ * stored_size();
  }
  NRC_FAST_DEVICE T* stored_velocity() const {
    return static_cast<T*>(arguments_.request.transform_velocities) + problem_ * stored_size();
  }
  NRC_FAST_DEVICE const T* stored_moments() const {
    const std::int64_t index = arguments_.request.moment_index[problem_];
    return static_cast<const T*>(arguments_.request.moments) + index * used() * arguments_.request.stride;
  }
  NRC_FAST_DEVICE T* residual(std::int64_t output) const { return scratch_ + output * arguments_.stride; }
  NRC_FAST_DEVICE T* image(std::int64_t output) const { return residual(n() + output); }
  NRC_FAST_DEVICE T* weights() const { return image(n()); }
  NRC_FAST_DEVICE T* old_weights() const { return weights() + d() * n(); }
  NRC_FAST_DEVICE T* weight_velocity() const { return old_weights() + d() * n(); }
  NRC_FAST_DEVICE T* bias() const { return weight_velocity() + d() * n(); }
  NRC_FAST_DEVICE T* bias_velocity() const { return bias() + n(); }

  NRC_FAST_DEVICE void copy_rows(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride,
                                 std::int64_t rows) const {
    if (from == to) return;
    for (std::int64_t row = warp(); row < rows; row += warps()) {
      for (std::int64_t c = thread_index() % warp_lanes; c < used(); c += warp_lanes) {
        to[row * to_stride + c] = from[row * from_stride + c];
      }
    }
  }
  // Of a part of the state that is not in rows.
  NRC_FAST_DEVICE void exchange(void* stored, T* copy, std::int64_t count, bool is_stored) const {
    T* const own = static_cast<T*>(stored) + problem_ * count;
    for (std::int64_t k = thread_index(); k < count; k += arguments_.threads) {
      if (is_stored) {
        own[k] = copy[k];
      } else {
        copy[k] = own[k];
      }
    }
  }
  NRC_FAST_DEVICE void exchange_heads(bool is_stored) const {
    const DescentRequest& request = arguments_.request;
    exchange(request.weights, weights(), d() * n(), is_stored);
    exchange(request.biases, bias(), n(), is_stored);
    if (!has_momentum_) return;
    exchange(request.weight_velocities, weight_velocity(), d() * n(), is_stored);
    exchange(request.bias_velocities, bias_velocity(), n(), is_stored);
  }

  NRC_FAST_DEVICE void load() const {
    const std::int64_t stride = arguments_.request.stride;
    copy_rows(stored_transform(), stride, transform_, arguments_.transform_stride, d());
    copy_rows(stored_moments(), stride, const_cast<T*>(moments_), arguments_.moment_stride, used());
    if (has_momentum_) copy_rows(stored_velocity(), stride, velocity_, arguments_.velocity_stride, d());
    exchange_heads(false);
  }

  NRC_FAST_DEVICE void save() const {
    const std::int64_t stride = arguments_.request.stride;
    copy_rows(transform_, arguments_.transform_stride, stored_transform(), stride, d());
    if (has_momentum_) copy_rows(velocity_, arguments_.velocity_stride, stored_velocity(), stride, d());
    exchange_heads(true);
  }

  // ---- products with a few outputs ----

  // Calls `use` with a few of the outputs from `first` on, until all have had their turn.
  template <class Use>
  NRC_FAST_DEVICE void in_groups(std::int64_t first, const Use& use) const {
    for (; first + most_outputs <= n(); first += most_outputs) use(Outputs<most_outputs>{}, first);
    if (n() - first == 3) use(Outputs<3>{}, first);
    if (n() - first == 2) use(Outputs<2>{}, first);
    if (n() - first == 1) use(Outputs<1>{}, first);
  }
  template <int count>
  struct Outputs {
    static constexpr int value = count;
  };

  // The lanes of a column add up their sums.
  template <int outputs>
  NRC_FAST_DEVICE static void add_over_rows(T (&sums)[outputs]) {
#pragma unroll
    for (int o = 0; o < outputs; ++o) {
#pragma unroll
      for (int mask = patch_columns; mask < warp_lanes; mask *= 2) sums[o] += shuffle_xor(sums[o], mask);
    }
  }

  // sums = left^T matrix for one column; element (row, o) of `left` is at left[row * row_step + o * output_step].
  template <int outputs>
  NRC_FAST_DEVICE void column_sums(const T* matrix, std::int64_t stride, std::int64_t rows, std::int64_t column,
                                   const T* left, std::int64_t row_step, std::int64_t output_step,
                                   T (&sums)[outputs]) const {
#pragma unroll
    for (int o = 0; o < outputs; ++o) sums[o] = T(0);
    for (std::int64_t first = lane_row(); first < rows; first += patch_rows * rows_in_flight) {
      T values[rows_in_flight];
#pragma unroll
      for (int j = 0; j < rows_in_flight; ++j) {
        const std::int64_t row = first + j * patch_rows;
        values[j] = row < rows && column < used() ? matrix[row * stride + column] : T(0);
      }
#pragma unroll
      for (int j = 0; j < rows_in_flight; ++j) {
        const std::int64_t row = first + j * patch_rows;
        if (row >= rows) continue;
#pragma unroll
        for (int o = 0; o < outputs; ++o) sums[o] += left[row * row_step + o * output_step] * values[j];
      }
    }
    add_over_rows(sums);
  }

  // ---- P ----

  NRC_FAST_DEVICE void compute_image() const {
    for (std::int64_t first_column = warp() * patch_columns; first_column < used();
         first_column += warps() * patch_columns) {
      const std::int64_t column = first_column + lane_column();
      in_groups(0, [&](auto count, std::int64_t first) {
        T sums[decltype(count)::value];
        column_sums(moments_, arguments_.moment_stride, used(), column, residual(first), 1, arguments_.stride, sums);
        if (lane_row() > 0 || column >= used()) return;
#pragma unroll
        for (int o = 0; o < decltype(count)::value; ++o) image(first + o)[column] = sums[o];
      });
    }
  }

  // ---- W and b ----

  // Products of rows of T with rows of P: the gradient of W but for its penalty.
  NRC_FAST_DEVICE void step_weights() const {
    constexpr int rows_at_once = patch_rows * product_rows;
    for (std::int64_t first_row = warp() * rows_at_once; first_row < d(); first_row += warps() * rows_at_once) {
      in_groups(0, [&](auto count, std::int64_t first) {
        step_weights<decltype(count)::value>(first_row + lane_row(), first);
      });
    }
  }

  template <int outputs>
  NRC_FAST_DEVICE void step_weights(std::int64_t row, std::int64_t first) const {
    static_assert(product_rows * outputs <= patch_columns);
    T sums[product_rows * outputs];
#pragma unroll
    for (int k = 0; k < product_rows * outputs; ++k) sums[k] = T(0);
#pragma unroll 4
    for (std::int64_t column = lane_column(); column < used(); column += patch_columns) {
      T images[outputs];
#pragma unroll
      for (int o = 0; o < outputs; ++o) images[o] = image(first + o)[column];
#pragma unroll
      for (int i = 0; i < product_rows; ++i) {
        const T value = row + i * patch_rows < d()
                            ? transform_[(row + i * patch_rows) * arguments_.transform_stride + column]
                            : T(0);
#pragma unroll
        for (int o = 0; o < outputs; ++o) sums[i * outputs + o] += value * images[o];
      }
    }
    // The lanes of a row add up their sums, and each of them takes one weight.
    T product = T(0);
#pragma unroll
    for (int k = 0; k < product_rows * outputs; ++k) {
#pragma unroll
      for (int mask = patch_columns / 2; mask > 0; mask /= 2) sums[k] += shuffle_xor(sums[k], mask);
      if (lane_column() == k) product = sums[k];
    }
    const std::int64_t own_row = row + lane_column() / outputs * patch_rows;
    if (lane_column() >= product_rows * outputs || own_row >= d()) return;
    const std::int64_t index = own_row * n() + first + lane_column() % outputs;
    const T weight = weights()[index];
    old_weights()[index] = weight;
    weights()[index] =
        weight - rate(weight_rate) * with_momentum(product + rate(weight_penalty) * weight, weight_velocity()[index]);
  }

  NRC_FAST_DEVICE T with_momentum(T change, T& velocity) const {
    if (!has_momentum_) return change;
    velocity = rate(momentum) * velocity + change;
    return velocity;
  }

  NRC_FAST_DEVICE void step_bias() const {
    for (std::int64_t r = thread_index(); r < n(); r += arguments_.threads) {
      const T change = image(r)[d() + n()] + rate(bias_penalty) * bias()[r];
      bias()[r] -= rate(bias_rate) * with_momentum(change, bias_velocity()[r]);
    }
  }

  // ---- T, and Q of the next step ----

  // Writes W T + [0 -I b] for some outputs of one column.
  template <int outputs>
  NRC_FAST_DEVICE void write_residual(std::int64_t first, std::int64_t column, const T (&sums)[outputs]) const {
    if (lane_row() > 0 || column >= used()) return;
#pragma unroll
    for (int o = 0; o < outputs; ++o) {
      const T constant = column == d() + n() ? bias()[first + o] : (column == d() + first + o ? T(-1) : T(0));
      residual(first + o)[column] = sums[o] + constant;
    }
  }

  // Q of the outputs from `first` on: sums in the order of step_transform, so that it does not show in how many calls
  // the steps are taken.
  NRC_FAST_DEVICE void residual_of(std::int64_t first_output, std::int64_t column) const {
    in_groups(first_output, [&](auto count, std::int64_t first) {
      T sums[decltype(count)::value];
      column_sums(transform_, arguments_.transform_stride, d(), column, weights() + first, n(), 1, sums);
      write_residual(first, column, sums);
    });
  }

  NRC_FAST_DEVICE void start() const {
    for (std::int64_t first_column = warp() * patch_columns; first_column < used();
         first_column += warps() * patch_columns) {
      residual_of(0, first_column + lane_column());
    }
  }

  NRC_FAST_DEVICE void step_transform() const {
    for (std::int64_t first_column = warp() * patch_columns; first_column < used();
         first_column += warps() * patch_columns) {
      const std::int64_t column = first_column + lane_column();
      if (n() >= 4) step_column<4>(column);
      if (n() == 3) step_column<3>(column);
      if (n() == 2) step_column<2>(column);
      if (n() == 1) step_column<1>(column);
    }
  }

  // A warp has its columns of T and Q to itself.
  template <int outputs>
  NRC_FAST_DEVICE void step_column(std::int64_t column) const {
    const bool is_there = column < used();
    const T step_size = rate(feature_rate);
    const T penalty = rate(feature_penalty);
    T residuals[outputs];
    T sums[outputs];
#pragma unroll
    for (int o = 0; o < outputs; ++o) {
      residuals[o] = is_there ? residual(o)[column] : T(0);
      sums[o] = T(0);
    }
    for (std::int64_t first = lane_row(); first < d(); first += patch_rows * rows_in_flight) {
      T values[rows_in_flight];
      T changes[rows_in_flight];
#pragma unroll
      for (int j = 0; j < rows_in_flight; ++j) {
        const std::int64_t row = first + j * patch_rows;
        values[j] = row < d() && is_there ? transform_[row * arguments_.transform_stride + column] : T(0);
      }
#pragma unroll
      for (int j = 0; j < rows_in_flight; ++j) {
        const std::int64_t row = first + j * patch_rows;
        changes[j] = penalty * values[j];
        if (row >= d()) continue;
#pragma unroll
        for (int o = 0; o < outputs; ++o) changes[j] += old_weights()[row * n() + o] * residuals[o];
      }
      for (std::int64_t r = outputs; r < n(); ++r) {
        const T other = is_there ? residual(r)[column] : T(0);
#pragma unroll
        for (int j = 0; j < rows_in_flight; ++j) {
          const std::int64_t row = first + j * patch_rows;
          if (row < d()) changes[j] += old_weights()[row * n() + r] * other;
        }
      }
#pragma unroll
      for (int j = 0; j < rows_in_flight; ++j) {
        const std::int64_t row = first + j * patch_rows;
        if (row >= d() || !is_there) continue;
        if (has_momentum_) changes[j] = with_momentum(changes[j], velocity_[row * arguments_.velocity_stride + column]);
        values[j] -= step_size * changes[j];
        transform_[row * arguments_.transform_stride + column] = values[j];
#pragma unroll
        for (int o = 0; o < outputs; ++o) sums[o] += weights()[row * n() + o] * values[j];
      }
    }
    add_over_rows(sums);
    synchronize_warp();  // all its lanes have read Q
    write_residual(0, column, sums);
    residual_of(outputs, column);
  }

  const DescentArguments& arguments_;
  std::int64_t problem_;
  bool has_momentum_;
  // During the steps.
  T* scratch_;
  T* transform_;
  T* velocity_;
  const T* moments_;
};

}  // namespace nrc_fast::cuda
