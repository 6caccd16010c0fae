// The instruction sets of this build: listed, chosen once at run time, and forcible for tests.
#pragma once

#include <string>
#include <vector>

#include "cpu/machine/kernel_table.h"

namespace nrc_fast {

std::vector<std::string> built_isas();      // best first
std::vector<std::string> supported_isas();  // those that this machine runs, and runs right, best first
const KernelTable& current_kernels();
void choose_isa(const std::string& name);  // throws std::invalid_argument when unknown or not supported

}  // namespace nrc_fast
