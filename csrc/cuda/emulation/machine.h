// The emulated machine: what a test chooses where the instruction set leaves a choice, what is wrong with it, the
// limits of the cards, and what launches have done.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nrc_fast::cuda::emulation {

// A place in the sources.
struct Place {
  const char* file = "";
  int line = 0;
};

// A file may be named by the end of its path.
bool is_same(const Place& place, const Place& other);
std::string described(const Place& place);

struct Dimensions {
  std::int64_t x = 0;
  std::int64_t y = 0;
  std::int64_t z = 0;
};

struct Launch {
  const char* name;
  Dimensions grid;
  int threads;
  std::int64_t shared_bytes;
};

// An instruction by which threads wait for one another or for their copies.
struct Synchronization {
  const char* name;
  Place place;
};

struct Machine {
  // Of threads and of blocks. `ahead`: a warp runs as far as it can before another one starts.
  enum class Order { forward, backward, shuffled, ahead };
  // An asynchronous copy may land at once or not before it is waited for.
  enum class Copies { early, late };
  // Deliberate faults: a test that passes with one of them tests nothing.
  enum class Fault {
    none,
    not_transposed,
    operands_swapped,
    accumulators_swapped,
    wait_too_short,
    no_barrier,
    not_swizzled,   // a descriptor is read without its swizzling mode
    wrong_phase,    // the other parity is waited for
    bytes_missing,  // a barrier expects a kilobyte less
  };

  Order order = Order::forward;
  Copies copies = Copies::late;
  Fault fault = Fault::none;
  unsigned seed = 0;
  int multiprocessors = 4;
  int capability = 90;
  int blocks_at_once = 1;  // that run in turns
  bool finds_races = false;
  bool keeps_records = false;
  // The synchronization that is left out; none where the line is 0.
  std::string left_out_file;
  int left_out_line = 0;

  std::int64_t launches = 0;
  // Reads of eight rows by ldmatrix, and how many passes over the banks they took.
  std::int64_t matrix_reads = 0;
  std::int64_t matrix_passes = 0;
  // Of rows: by asynchronous copies, and by loads.
  std::int64_t copied_bytes = 0;
  std::int64_t loaded_bytes = 0;
  // Of what was reached, each once, and of all launches.
  std::vector<Synchronization> synchronizations;
  std::vector<Launch> launched;
};

Machine& machine();

// Whether a test has left this synchronization out; it is remembered that it was reached.
bool is_left_out(const Synchronization& at);

// What a card of some compute capability gives, from the table of compute capabilities in NVIDIA's programming guide.
struct CardLimits {
  int capability;
  std::int64_t shared_per_block;
  std::int64_t shared_per_multiprocessor;
  int threads_per_multiprocessor;
  int blocks_per_multiprocessor;
};

constexpr int most_threads_of_block = 1024;
constexpr std::int64_t most_blocks_across = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t most_blocks_along = 65535;  // y and z of a grid
const std::vector<CardLimits>& cards();
// std::invalid_argument where the emulation does not know the capability.
const CardLimits& card_limits(int capability);

// std::runtime_error with what the runtime says where a card of the machine's capability refuses the launch.
void require_possible(const Launch& launch);

}  // namespace nrc_fast::cuda::emulation
