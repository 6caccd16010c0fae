// Threads that share the pool and the memory that is kept for the next call; compiled and run by test_sanitizers.py
// with the thread sanitizer.
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "cpu/machine/buffer.h"
#include "cpu/machine/thread_pool.h"

namespace {

// The sum of 0 .. parts - 1 by parts, each with memory of its own, `rounds` times.
void add_up(int parts, int rounds, std::int64_t& total) {
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::int64_t> sums(static_cast<std::size_t>(parts));
    nrc_fast::parallel_for(parts, [&](int part) {
      const nrc_fast::Buffer buffer(64 << 10);
      auto* const numbers = buffer.as<std::int64_t>();
      numbers[part] = part;
      sums[static_cast<std::size_t>(part)] = numbers[part];
    });
    for (const std::int64_t sum : sums) total += sum;
    if (round % 16 == 0) nrc_fast::release_memory();
  }
}

}  // namespace

int main() {
  constexpr int callers = 4;
  constexpr int rounds = 200;
  std::vector<std::int64_t> totals(callers);
  std::vector<std::thread> threads;
  threads.reserve(callers);
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&totals, caller] { add_up(3 + caller, rounds, totals[static_cast<std::size_t>(caller)]); });
  }
  int wrong = 0;
  for (int caller = 0; caller < callers; ++caller) {
    threads[static_cast<std::size_t>(caller)].join();
    const std::int64_t parts = 3 + caller;
    wrong += totals[static_cast<std::size_t>(caller)] != rounds * parts * (parts - 1) / 2;
  }
  std::printf("%d callers, %d wrong sums\n", callers, wrong);
  return wrong == 0 ? 0 : 1;
}
