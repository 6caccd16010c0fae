// Who knows of whom among the threads of a block and its copy engine (vector clocks): what was done before a thread
// arrived at a barrier in shared memory has happened for those who then waited for its phase.
#pragma once

#include <cstdint>
#include <vector>

namespace nrc_fast::cuda::emulation {

class Clocks {
 public:
  static constexpr int copy_engine = 0xffff;  // in the place of a thread
  using Clock = std::vector<std::uint32_t>;

  // None are kept before `start`: kernels without such barriers need none.
  void begin(int threads);
  void start();

  std::uint32_t epoch(int agent) const { return clocks_.empty() ? 1 : clocks_[place(agent)][place(agent)]; }
  // Whether the agent knows of what another did in an epoch.
  bool knows(int agent, int other, std::uint32_t epoch) const {
    return !clocks_.empty() && epoch <= clocks_[place(agent)][place(other)];
  }

  // What an agent knows and has done becomes known to who acquires it from there.
  void release(int agent, Clock& into);
  void acquire(int agent, const Clock& from);
  // Barriers of threads: each then knows what all know.
  void join(int first, int count);
  // Threads know what the first of them has done, and nothing more: its products have ended.
  void tell(int first, int count);

 private:
  static std::size_t place(int agent) { return agent == copy_engine ? 0 : static_cast<std::size_t>(agent) + 1; }

  int threads_ = 0;
  std::vector<Clock> clocks_;
};

}  // namespace nrc_fast::cuda::emulation
