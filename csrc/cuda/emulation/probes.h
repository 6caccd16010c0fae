// Kernels that are right, or wrong in one way each, which the emulated device must tell apart.
#pragma once

#include <cstdint>
#include <string>

namespace nrc_fast::cuda::emulation {

// Numbers that a probe needs: four to read, and one for each thread.
constexpr std::int64_t probe_blocks = 2;
constexpr std::int64_t probe_threads = 64;
constexpr std::int64_t probe_numbers = 4 + probe_blocks * probe_threads;

// Launches the probe of a name; std::invalid_argument where there is none.
void run_probe(const std::string& name, std::int64_t* memory);

}  // namespace nrc_fast::cuda::emulation
