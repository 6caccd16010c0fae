#include "cuda/emulation/clocks.h"

#include <algorithm>

namespace nrc_fast::cuda::emulation {
namespace {

void raise(Clocks::Clock& clock, const Clocks::Clock& other) {
  clock.resize(other.size());
  std::transform(other.begin(), other.end(), clock.begin(), clock.begin(),
                 [](std::uint32_t a, std::uint32_t b) { return std::max(a, b); });
}

}  // namespace

void Clocks::begin(int threads) {
  threads_ = threads;
  clocks_.clear();
}

void Clocks::start() {
  if (!clocks_.empty()) return;
  const auto agents = static_cast<std::size_t>(threads_) + 1;
  clocks_.assign(agents, Clock(agents, 0));
  for (std::size_t a = 0; a < agents; ++a) clocks_[a][a] = 1;
}

void Clocks::release(int agent, Clock& into) {
  if (clocks_.empty()) return;
  Clock& own = clocks_[place(agent)];
  raise(into, own);
  ++own[place(agent)];
}

void Clocks::acquire(int agent, const Clock& from) {
  if (!clocks_.empty() && !from.empty()) raise(clocks_[place(agent)], from);
}

void Clocks::join(int first, int count) {
  if (clocks_.empty()) return;
  Clock all;
  for (int t = first; t < first + count; ++t) release(t, all);
  for (int t = first; t < first + count; ++t) acquire(t, all);
}

void Clocks::tell(int first, int count) {
  if (clocks_.empty()) return;
  std::uint32_t& epoch = clocks_[place(first)][place(first)];
  for (int t = first + 1; t < first + count; ++t) clocks_[place(t)][place(first)] = epoch;
  ++epoch;
}

}  // namespace nrc_fast::cuda::emulation
