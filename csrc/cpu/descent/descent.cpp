#include "cpu/descent/descent.h"

#include <atomic>
#include <stdexcept>

#include "cpu/machine/isa.h"
#include "cpu/machine/rows.h"
#include "cpu/machine/thread_pool.h"

namespace nrc_fast {
namespace {

void check(const DescentBatch& batch) {
  require_padded_states(batch);
  for (std::int64_t p = 0; p < batch.problems; ++p) {
    if (batch.steps[p] > 0 && batch.rates[p * descent_rate_count + descent_rate_count - 1] != 0.0 &&
        batch.transform_velocities == nullptr) {
      throw std::invalid_argument("momentum needs velocities");
    }
  }
}

void* at(void* base, std::int64_t bytes) { return base == nullptr ? nullptr : static_cast<char*>(base) + bytes; }

}  // namespace

void descent(const DescentBatch& batch) {
  const KernelTable& table = current_kernels();
  const DescentKernels& kernels = batch.double_precision ? table.descent_float64() : table.descent_float32();
  check(batch);
  std::int64_t all_steps = 0;
  for (std::int64_t p = 0; p < batch.problems; ++p) all_steps += batch.steps[p];
  const double operations = 8.0 * static_cast<double>(all_steps) * static_cast<double>(batch.n) *
                            static_cast<double>(batch.d) * static_cast<double>(batch.stride);
  const int parts = parts_for(operations, batch.problems, thread_count());
  const std::int64_t size = kernels.element_size;
  const std::int64_t state = batch.d * batch.stride * size;
  const std::int64_t head = batch.d * batch.n * size;
  std::vector<Buffer> scratch;
  scratch.reserve(static_cast<std::size_t>(parts));
  for (int p = 0; p < parts; ++p) {
    scratch.emplace_back((3 * batch.n * batch.stride + 2 * kernels.rows * batch.n) * size);
  }
  // Problems may stop early, so none belongs to a thread from the start; what one computes depends on itself only.
  std::atomic<std::int64_t> next{0};
  parallel_for(parts, [&](int part) {
    for (std::int64_t p = next.fetch_add(1); p < batch.problems; p = next.fetch_add(1)) {
      if (batch.steps[p] <= 0) continue;
      DescentArguments arguments;
      arguments.d = batch.d;
      arguments.n = batch.n;
      arguments.stride = batch.stride;
      arguments.transform = at(batch.transforms, p * state);
      arguments.weights = at(batch.weights, p * head);
      arguments.bias = at(batch.biases, p * batch.n * size);
      arguments.transform_velocity = at(batch.transform_velocities, p * state);
      arguments.weight_velocity = at(batch.weight_velocities, p * head);
      arguments.bias_velocity = at(batch.bias_velocities, p * batch.n * size);
      arguments.moments = static_cast<const char*>(batch.moments) +
                          batch.moment_index[p] * (batch.d + batch.n + 1) * batch.stride * size;
      arguments.scratch = scratch[static_cast<std::size_t>(part)].get();
      arguments.rates = batch.rates + p * descent_rate_count;
      arguments.steps = batch.steps[p];
      kernels.descend(arguments);
    }
  });
}

}  // namespace nrc_fast
