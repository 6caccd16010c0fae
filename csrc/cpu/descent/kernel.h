// Gradient descent on the unconstrained feature model, of one instruction set: all steps of one problem.
//
// The features are H = Z T^T with Z = [H0 Y 1], so that a step needs only T, W, b and K = Z^T Z / M. With
// Q = W T + [0 -I b] and P = Q K the gradients are W^T Q + lambda_H T, P T^T + lambda_W W and the last column of P.
// One pass over the rows of T updates T and W and sums up the Q of the next step, in an order that is the same
// whether steps are taken in one call or in many.
#pragma once

#include "cpu/machine/kernel_table.h"
#include "cpu/machine/simd.h"

namespace nrc_fast::NRC_FAST_ISA {

constexpr int descent_rows = vector_registers == 32 ? 4 : 2;
constexpr int descent_outputs = 4;

// What penalties make decay would stay subnormal for ever, t - rate t = t, and some processors take a hundred times as
// long for such numbers. While steps are taken they count as 0; the thread's own mode is put back afterwards.
#if defined(__SSE2__)
constexpr unsigned subnormals_are_zero = 0x8040u;
NRC_FAST_INLINE unsigned floating_mode() { return __builtin_ia32_stmxcsr(); }
NRC_FAST_INLINE void set_floating_mode(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
constexpr unsigned subnormals_are_zero = 1U << 24;
NRC_FAST_INLINE unsigned floating_mode() {
  std::uint64_t mode = 0;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return static_cast<unsigned>(mode);
}
NRC_FAST_INLINE void set_floating_mode(unsigned mode) {
  asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{mode}) : "memory");
}
#else
constexpr unsigned subnormals_are_zero = 0;
NRC_FAST_INLINE unsigned floating_mode() { return 0; }
NRC_FAST_INLINE void set_floating_mode(unsigned) {}
#endif

template <class T>
struct DescentState {
  std::int64_t d;
  std::int64_t n;
  std::int64_t used;    // columns of T: d + n + 1
  std::int64_t stride;  // the same, padded to whole vectors
  T* transform;         // [d][stride]
  T* weights;           // [d][n]
  T* bias;              // [n]
  T* transform_velocity;
  T* weight_velocity;
  T* bias_velocity;
  const T* moments;  // [used][stride]
  T* residual;       // Q, [n][stride]
  T* image;          // P, [n][stride]
  T* next;           // Q of the next step
  T weight_rate;
  T feature_rate;
  T bias_rate;
  T weight_penalty;
  T feature_penalty;
  T bias_penalty;
  T momentum;
};

// P = Q K for a few outputs and columns.
template <class T, int outputs, int vectors>
NRC_FAST_INLINE void image_block(const DescentState<T>& s, std::int64_t output, std::int64_t column) {
  constexpr int N = lanes<T>;
  const T* const residual = s.residual + output * s.stride;
  Native<T> sums[outputs][vectors] = {};
  for (std::int64_t k = 0; k < s.used; ++k) {
    Native<T> row[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) row[v] = load<Native<T>>(s.moments + k * s.stride + column + v * N);
#pragma GCC unroll 4
    for (int r = 0; r < outputs; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] += residual[r * s.stride + k] * row[v];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < outputs; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store(s.image + (output + r) * s.stride + column + v * N, sums[r][v]);
  }
}

template <class T, int outputs>
NRC_FAST_INLINE void image_rows(const DescentState<T>& s, std::int64_t output) {
  constexpr int N = lanes<T>;
  constexpr int vectors = vector_registers == 32 ? 4 : 2;
  std::int64_t column = 0;
  for (; column + vectors * N <= s.stride; column += vectors * N) image_block<T, outputs, vectors>(s, output, column);
  for (; column < s.stride; column += N) image_block<T, outputs, 1>(s, output, column);
}

template <class T>
void compute_image(const DescentState<T>& s) {
  std::int64_t output = 0;
  for (; output + descent_outputs <= s.n; output += descent_outputs) image_rows<T, descent_outputs>(s, output);
  const std::int64_t left = s.n - output;
  if (left == 3) image_rows<T, 3>(s, output);
  if (left == 2) image_rows<T, 2>(s, output);
  if (left == 1) image_rows<T, 1>(s, output);
}

// Products of a few rows of T with a few rows of P: the gradient of W but for its penalty.
template <class T, int rows, int outputs>
NRC_FAST_INLINE void weight_products(const DescentState<T>& s, std::int64_t row, std::int64_t output, T* products) {
  constexpr int N = lanes<T>;
  Native<T> sums[rows][outputs] = {};
  for (std::int64_t column = 0; column < s.stride; column += N) {
    Native<T> images[outputs];
#pragma GCC unroll 4
    for (int r = 0; r < outputs; ++r) images[r] = load<Native<T>>(s.image + (output + r) * s.stride + column);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const auto value = load<Native<T>>(s.transform + (row + i) * s.stride + column);
#pragma GCC unroll 4
      for (int r = 0; r < outputs; ++r) sums[i][r] += value * images[r];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int r = 0; r < outputs; ++r) products[i * s.n + output + r] = horizontal_sum<T, N>(sums[i][r]);
  }
}

template <class T, int rows>
NRC_FAST_INLINE void weight_gradient(const DescentState<T>& s, std::int64_t row, T* products) {
  std::int64_t output = 0;
  for (; output + descent_outputs <= s.n; output += descent_outputs) {
    weight_products<T, rows, descent_outputs>(s, row, output, products);
  }
  const std::int64_t left = s.n - output;
  if (left == 3) weight_products<T, rows, 3>(s, row, output, products);
  if (left == 2) weight_products<T, rows, 2>(s, row, output, products);
  if (left == 1) weight_products<T, rows, 1>(s, row, output, products);
}

// next += W T for a few rows of T, one output at a time, rows in their order.
template <class T, int rows>
NRC_FAST_INLINE void add_to_next(const DescentState<T>& s, std::int64_t row, std::int64_t column,
                                 const Native<T>* values) {
  const T* const weights = s.weights + row * s.n;
  for (std::int64_t r = 0; r < s.n; ++r) {
    T* const target = s.next + r * s.stride + column;
    auto sum = load<Native<T>>(target);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) sum += weights[i * s.n + r] * values[i];
    store(target, sum);
  }
}

template <class T, int rows, bool has_momentum>
NRC_FAST_INLINE void step_rows(const DescentState<T>& s, std::int64_t row, T* products, T* old_weights) {
  constexpr int N = lanes<T>;
  weight_gradient<T, rows>(s, row, products);
  T* const weights = s.weights + row * s.n;
  for (std::int64_t k = 0; k < rows * s.n; ++k) {
    old_weights[k] = weights[k];
    T change = products[k] + s.weight_penalty * weights[k];
    if constexpr (has_momentum) {
      T* const velocity = s.weight_velocity + row * s.n + k;
      change = s.momentum * *velocity + change;
      *velocity = change;
    }
    weights[k] -= s.weight_rate * change;
  }
  for (std::int64_t column = 0; column < s.stride; column += N) {
    Native<T> values[rows];
    Native<T> changes[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      values[i] = load<Native<T>>(s.transform + (row + i) * s.stride + column);
      changes[i] = s.feature_penalty * values[i];
    }
    for (std::int64_t r = 0; r < s.n; ++r) {
      const auto residual = load<Native<T>>(s.residual + r * s.stride + column);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) changes[i] += old_weights[i * s.n + r] * residual;
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      if constexpr (has_momentum) {
        T* const velocity = s.transform_velocity + (row + i) * s.stride + column;
        changes[i] = s.momentum * load<Native<T>>(velocity) + changes[i];
        store(velocity, changes[i]);
      }
      values[i] -= s.feature_rate * changes[i];
      store(s.transform + (row + i) * s.stride + column, values[i]);
    }
    add_to_next<T, rows>(s, row, column, values);
  }
}

// next = [0 -I b], to which the rows of T are added.
template <class T>
void clear_next(const DescentState<T>& s) {
  for (std::int64_t r = 0; r < s.n; ++r) {
    T* const target = s.next + r * s.stride;
    for (std::int64_t c = 0; c < s.stride; ++c) target[c] = T(0);
    target[s.d + r] = T(-1);
    target[s.d + s.n] = s.bias[r];
  }
}

template <class T, int rows>
NRC_FAST_INLINE void first_rows(const DescentState<T>& s, std::int64_t row) {
  constexpr int N = lanes<T>;
  for (std::int64_t column = 0; column < s.stride; column += N) {
    Native<T> values[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) values[i] = load<Native<T>>(s.transform + (row + i) * s.stride + column);
    add_to_next<T, rows>(s, row, column, values);
  }
}

template <class T>
void swap_residuals(DescentState<T>& s) {
  T* const swapped = s.residual;
  s.residual = s.next;
  s.next = swapped;
}

template <class T, bool has_momentum>
void take_step(DescentState<T>& s, T* products, T* old_weights) {
  compute_image(s);
  for (std::int64_t r = 0; r < s.n; ++r) {
    T change = s.image[r * s.stride + s.d + s.n] + s.bias_penalty * s.bias[r];
    if constexpr (has_momentum) {
      change = s.momentum * s.bias_velocity[r] + change;
      s.bias_velocity[r] = change;
    }
    s.bias[r] -= s.bias_rate * change;
  }
  clear_next(s);
  std::int64_t row = 0;
  for (; row + descent_rows <= s.d; row += descent_rows) {
    step_rows<T, descent_rows, has_momentum>(s, row, products, old_weights);
  }
  for (; row < s.d; ++row) step_rows<T, 1, has_momentum>(s, row, products, old_weights);
  swap_residuals(s);
}

template <class T>
__attribute__((noinline)) void take_steps(const DescentArguments& a) {
  DescentState<T> s = {};
  s.d = a.d;
  s.n = a.n;
  s.used = a.d + a.n + 1;
  s.stride = a.stride;
  s.transform = static_cast<T*>(a.transform);
  s.weights = static_cast<T*>(a.weights);
  s.bias = static_cast<T*>(a.bias);
  s.transform_velocity = static_cast<T*>(a.transform_velocity);
  s.weight_velocity = static_cast<T*>(a.weight_velocity);
  s.bias_velocity = static_cast<T*>(a.bias_velocity);
  s.moments = static_cast<const T*>(a.moments);
  T* const scratch = static_cast<T*>(a.scratch);
  s.residual = scratch;
  s.image = scratch + a.n * a.stride;
  s.next = scratch + 2 * a.n * a.stride;
  T* const products = scratch + 3 * a.n * a.stride;
  T* const old_weights = products + descent_rows * a.n;
  s.weight_rate = static_cast<T>(a.rates[0]);
  s.feature_rate = static_cast<T>(a.rates[1]);
  s.bias_rate = static_cast<T>(a.rates[2]);
  s.weight_penalty = static_cast<T>(a.rates[3]);
  s.feature_penalty = static_cast<T>(a.rates[4]);
  s.bias_penalty = static_cast<T>(a.rates[5]);
  s.momentum = static_cast<T>(a.rates[6]);
  clear_next(s);
  std::int64_t row = 0;
  for (; row + descent_rows <= s.d; row += descent_rows) first_rows<T, descent_rows>(s, row);
  for (; row < s.d; ++row) first_rows<T, 1>(s, row);
  swap_residuals(s);
  for (std::int64_t step = 0; step < a.steps; ++step) {
    if (a.rates[6] != 0.0) {
      take_step<T, true>(s, products, old_weights);
    } else {
      take_step<T, false>(s, products, old_weights);
    }
  }
}

template <class T>
void descend(const DescentArguments& a) {
  const unsigned before = floating_mode();
  set_floating_mode(before | subnormals_are_zero);
  take_steps<T>(a);
  set_floating_mode(before);
}

const DescentKernels& descent_float32() {
  static constexpr DescentKernels kernels = {sizeof(float), descent_rows, descend<float>};
  return kernels;
}

const DescentKernels& descent_float64() {
  static constexpr DescentKernels kernels = {sizeof(double), descent_rows, descend<double>};
  return kernels;
}

}  // namespace nrc_fast::NRC_FAST_ISA
