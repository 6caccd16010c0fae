#include "cuda/emulation/machine.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>

namespace nrc_fast::cuda::emulation {
namespace {

std::runtime_error refused(const Launch& launch, const char* error, const std::string& why) {
  return std::runtime_error(std::string(launch.name) + ": CUDA says " + error + ": " + why);
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

bool is_same(const Place& place, const Place& other) {
  return place.line == other.line && (ends_with(place.file, other.file) || ends_with(other.file, place.file));
}

std::string described(const Place& place) {
  const std::string_view file = place.file;
  const std::size_t folder = file.rfind("cuda/");
  return std::string(folder == std::string_view::npos ? file : file.substr(folder)) + ":" + std::to_string(place.line);
}

Machine& machine() {
  static Machine instance;
  return instance;
}

bool is_left_out(const Synchronization& at) {
  Machine& chosen = machine();
  if (chosen.keeps_records) {
    const auto is_it = [&](const Synchronization& other) { return is_same(other.place, at.place); };
    auto& reached = chosen.synchronizations;
    if (std::none_of(reached.begin(), reached.end(), is_it)) reached.push_back(at);
  }
  return chosen.left_out_line == at.place.line &&
         is_same(at.place, {chosen.left_out_file.c_str(), chosen.left_out_line});
}

const std::vector<CardLimits>& cards() {
  static const std::vector<CardLimits> all = {
      {75, 65536, 65536, 1024, 16},    {80, 166912, 167936, 2048, 32}, {86, 101376, 102400, 1536, 16},
      {89, 101376, 102400, 1536, 24},  {90, 232448, 233472, 2048, 32}, {100, 232448, 233472, 2048, 32},
      {120, 101376, 102400, 1536, 24},
  };
  return all;
}

const CardLimits& card_limits(int capability) {
  const auto found = std::find_if(cards().begin(), cards().end(),
                                  [&](const CardLimits& card) { return card.capability == capability; });
  if (found != cards().end()) return *found;
  throw std::invalid_argument("the emulation knows no card of compute capability " + std::to_string(capability));
}

void require_possible(const Launch& launch) {
  const CardLimits& card = card_limits(machine().capability);
  const Dimensions& grid = launch.grid;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > most_blocks_across || grid.y > most_blocks_along ||
      grid.z > most_blocks_along) {
    throw refused(launch, "cudaErrorInvalidConfiguration",
                  "a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                      std::to_string(grid.z) + " blocks; from 1 to 2^31 - 1, 65535 and 65535 are possible");
  }
  if (launch.threads < 1 || launch.threads > most_threads_of_block) {
    throw refused(launch, "cudaErrorInvalidConfiguration",
                  std::to_string(launch.threads) + " threads a block; from 1 to " +
                      std::to_string(most_threads_of_block) + " are possible");
  }
  if (launch.shared_bytes < 0 || launch.shared_bytes > card.shared_per_block) {
    throw refused(launch, "cudaErrorInvalidValue",
                  std::to_string(launch.shared_bytes) + " bytes of shared memory; " +
                      std::to_string(card.shared_per_block) + " are there on sm_" + std::to_string(card.capability));
  }
}

}  // namespace nrc_fast::cuda::emulation
