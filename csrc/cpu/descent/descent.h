// Steps of gradient descent for a batch of problems of the unconstrained feature model.
#pragma once

#include <cstdint>

namespace nrc_fast {

constexpr int descent_rate_count = 7;  // learning rates of W, T and b, penalties of W, H and b, momentum

// Arrays of `problems` states, float64 or float32, contiguous; rows of `stride` elements are padded with zeros to whole
// 64 bytes. Velocities may be null where no momentum is set.
struct DescentBatch {
  bool double_precision = true;
  std::int64_t problems = 0;
  std::int64_t d = 0;
  std::int64_t n = 0;
  std::int64_t stride = 0;
  void* transforms = nullptr;  // [problem][d][stride]
  void* weights = nullptr;     // [problem][d][n]
  void* biases = nullptr;      // [problem][n]
  void* transform_velocities = nullptr;
  void* weight_velocities = nullptr;
  void* bias_velocities = nullptr;
  const void* moments = nullptr;  // [moment][d + n + 1][stride]
  const std::int64_t* moment_index = nullptr;
  const double* rates = nullptr;        // [problem][descent_rate_count]
  const std::int64_t* steps = nullptr;  // of each problem; 0 leaves it as it is
};

void descent(const DescentBatch& batch);

}  // namespace nrc_fast
