#include "cuda/emulation/probes.h"

#include <map>
#include <stdexcept>

#include "cuda/emulation/instructions.h"

namespace nrc_fast::cuda::emulation {
namespace {

struct ProbeArguments {
  std::int64_t* memory;
};
using Probe = void (*)(ProbeArguments);

constexpr std::int64_t probe_shared_bytes = 512;

// In shared memory: 64 numbers that copies fill, and one for each thread.
int* copied() { return static_cast<int*>(static_cast<void*>(shared_memory())); }
int* own() { return copied() + probe_threads; }
int beside() { return thread_index() ^ 1; }
int across() { return (thread_index() + 32) % static_cast<int>(probe_threads); }

// What a thread has found goes where no other writes.
std::int64_t& result(const ProbeArguments& arguments) {
  return arguments.memory[4 + block_index() * probe_threads + thread_index()];
}

void copy_all(const ProbeArguments& arguments) {
  if (thread_index() < 16) copy_async(copied() + 4 * thread_index(), arguments.memory + thread_index() % 2 * 2, 16);
  commit_copies();
}

const std::map<std::string, Probe>& probes() {
  static const std::map<std::string, Probe> all = {
      {"write, barrier, read",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         synchronize_block();
         result(arguments) = own()[across()];
       }},
      {"write, read",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         result(arguments) = own()[across()];
       }},
      {"write, barrier of the warp, read of the same",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         synchronize_warp();
         result(arguments) = own()[beside()];
       }},
      {"write, barrier of the warp, read of another",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         synchronize_warp();
         result(arguments) = own()[across()];
       }},
      {"write, shuffle, read",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         result(arguments) = shuffle_xor(1, 1);
         result(arguments) += own()[beside()];
       }},
      {"read, barrier, write",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         synchronize_block();
         result(arguments) = own()[across()];
         synchronize_block();
         own()[thread_index()] = 2;
       }},
      {"read, write",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         synchronize_block();
         result(arguments) = own()[across()];
         own()[thread_index()] = 2;
       }},
      {"all read, one of them writes",
       [](ProbeArguments arguments) {
         if (thread_index() == 0) own()[0] = 1;
         synchronize_block();
         result(arguments) = own()[0];
         if (thread_index() == 63) own()[0] = 2;
       }},
      {"a lane reads, it writes",
       [](ProbeArguments arguments) {
         own()[thread_index()] = 1;
         synchronize_warp();
         result(arguments) = own()[thread_index()];
         own()[thread_index()] = 2;
       }},
      {"halves of a number",
       [](ProbeArguments arguments) {
         static_cast<std::uint16_t*>(static_cast<void*>(own()))[thread_index()] = 1;
         result(arguments) = 1;
       }},
      {"whole and half of a number",
       [](ProbeArguments arguments) {
         if (thread_index() == 0) own()[0] = 1;
         if (thread_index() == 1) static_cast<std::uint16_t*>(static_cast<void*>(own()))[1] = 1;
         result(arguments) = 1;
       }},
      {"copy, wait, barrier, read",
       [](ProbeArguments arguments) {
         copy_all(arguments);
         wait_for_copies<0>();
         synchronize_block();
         result(arguments) = copied()[across()];
       }},
      {"copy, barrier, read",
       [](ProbeArguments arguments) {
         copy_all(arguments);
         synchronize_block();
         result(arguments) = copied()[across()];
         wait_for_copies<0>();
       }},
      {"copy, wait, read",
       [](ProbeArguments arguments) {
         copy_all(arguments);
         wait_for_copies<0>();
         result(arguments) = copied()[across()];
       }},
      {"copy, read of one's own",
       [](ProbeArguments arguments) {
         copy_all(arguments);
         if (thread_index() < 16) result(arguments) = copied()[4 * thread_index()];
         wait_for_copies<0>();
       }},
      {"read, copy",
       [](ProbeArguments arguments) {
         copied()[thread_index()] = 1;
         synchronize_block();
         result(arguments) = copied()[across()];
         copy_all(arguments);
         wait_for_copies<0>();
       }},
      {"copy at the end", [](ProbeArguments arguments) { copy_all(arguments); }},
      {"blocks write apart", [](ProbeArguments arguments) { result(arguments) = 1; }},
      {"blocks write the same", [](ProbeArguments arguments) { arguments.memory[4 + thread_index()] = 1; }},
      {"a block reads what another writes",
       [](ProbeArguments arguments) {
         std::int64_t& other = arguments.memory[4 + thread_index()];
         if (block_index() == 0) other = 1;
         if (block_index() == 1) result(arguments) = other;
       }},
      {"a block writes what another reads",
       [](ProbeArguments arguments) {
         std::int64_t& other = arguments.memory[4 + probe_threads + thread_index()];
         if (block_index() == 0) result(arguments) = other;
         if (block_index() == 1) other = 1;
       }},
      {"blocks count", [](ProbeArguments arguments) { count_more(arguments.memory, 1); }},
      {"blocks count, and look",
       [](ProbeArguments arguments) {
         if (look_at(arguments.memory) >= 0) count_more(arguments.memory, 1);
       }},
      {"blocks look",
       [](ProbeArguments arguments) { result(arguments) = arguments.memory[0] + look_at(arguments.memory); }},
      {"blocks count, and read",
       [](ProbeArguments arguments) {
         if (arguments.memory[0] >= 0) count_more(arguments.memory, 1);
       }},
      {"lanes at two shuffles",
       [](ProbeArguments arguments) {
         if (thread_index() % 2 == 0) {
           result(arguments) = shuffle_xor(1, 2);
         } else {
           result(arguments) = shuffle_xor(1, 2);
         }
       }},
      {"warps at two barriers",
       [](ProbeArguments) {
         if (thread_index() < 32) {
           synchronize_block();
         } else {
           synchronize_block();
         }
       }},
      {"a thread leaves",
       [](ProbeArguments) {
         if (thread_index() != 5) synchronize_block();
       }},
      {"write past the end", [](ProbeArguments arguments) { arguments.memory[probe_numbers] = thread_index(); }},
      {"read before the beginning", [](ProbeArguments arguments) { result(arguments) = arguments.memory[-1]; }},
      {"read far before the beginning", [](ProbeArguments arguments) { result(arguments) = arguments.memory[-600]; }},
      {"copy past the end",
       [](ProbeArguments arguments) {
         if (thread_index() < 16) copy_async(copied() + 4 * thread_index(), arguments.memory + probe_numbers, 16);
         wait_for_copies<0>();
       }},
      {"shared past the end", [](ProbeArguments) { copied()[probe_shared_bytes / 4] = thread_index(); }},
  };
  return all;
}

}  // namespace

void run_probe(const std::string& name, std::int64_t* memory) {
  const auto found = probes().find(name);
  if (found == probes().end()) throw std::invalid_argument("there is no probe " + name);
  launch(found->second, "probe", {probe_blocks}, static_cast<int>(probe_threads), probe_shared_bytes, nullptr,
         ProbeArguments{memory});
}

}  // namespace nrc_fast::cuda::emulation
