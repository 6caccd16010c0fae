#include "cpu/machine/isa.h"

#include <atomic>
#include <stdexcept>

#if defined(NRC_FAST_X86)
#include <cpuid.h>
#endif

#include "cpu/gram/check_pairs.h"

namespace nrc_fast {

#define NRC_FAST_DECLARE(isa)                \
  namespace isa {                            \
  const RowKernels& row_kernels();           \
  const GramKernels& gram_float32();         \
  const GramKernels& gram_float64();         \
  const ResidualKernels& residual_float32(); \
  const ResidualKernels& residual_float64(); \
  const DescentKernels& descent_float32();   \
  const DescentKernels& descent_float64();   \
  }
#define NRC_FAST_ENTRY(name, isa, supported, gram_pairs) \
  {name,                                                 \
   supported,                                            \
   isa::row_kernels,                                     \
   isa::gram_float32,                                    \
   isa::gram_float64,                                    \
   isa::residual_float32,                                \
   isa::residual_float64,                                \
   isa::descent_float32,                                 \
   isa::descent_float64,                                 \
   gram_pairs}

NRC_FAST_DECLARE(baseline)
#if defined(NRC_FAST_X86)
NRC_FAST_DECLARE(avx2)
NRC_FAST_DECLARE(avx512)
#endif
#if defined(NRC_FAST_AVX512BF16)
namespace avx512bf16 {
const PairKernels& gram_pairs();
}
#endif
#if defined(NRC_FAST_BFLOAT16_EMULATION)
namespace avx512bf16_emulated {
const PairKernels& gram_pairs();
}
#endif

namespace {

bool always() { return true; }

#if defined(NRC_FAST_X86)
// Not every compiler's __builtin_cpu_supports knows f16c by name.
bool has_f16c() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// __builtin_cpu_supports also asks whether the operating system saves the wide registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// Whether the processor says so: the registers are those of AVX-512. No compiler's name for it is the same everywhere.
bool says_avx512bf16() {
  constexpr unsigned int bit = 1U << 5;
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & bit) != 0;
}
#endif

#if defined(NRC_FAST_AVX512BF16)
// And multiplies right, which is checked once.
bool has_avx512bf16() {
  static const bool is_right = says_avx512bf16() && pairs_are_right(avx512bf16::gram_pairs(), avx512::gram_float32());
  return is_right;
}
#endif

#if defined(NRC_FAST_BFLOAT16_EMULATION)
bool has_emulated_avx512bf16() {
  static const bool is_right =
      has_avx512() && pairs_are_right(avx512bf16_emulated::gram_pairs(), avx512::gram_float32());
  return is_right;
}
#endif

const KernelTable tables[] = {
#if defined(NRC_FAST_AVX512BF16)
    NRC_FAST_ENTRY("avx512bf16", avx512, has_avx512bf16, avx512bf16::gram_pairs),
#endif
#if defined(NRC_FAST_X86)
    NRC_FAST_ENTRY("avx512", avx512, has_avx512, nullptr),
    NRC_FAST_ENTRY("avx2", avx2, has_avx2, nullptr),
#endif
#if defined(NRC_FAST_BFLOAT16_EMULATION)
    NRC_FAST_ENTRY("avx512bf16-emulated", avx512, has_emulated_avx512bf16, avx512bf16_emulated::gram_pairs),
#endif
    NRC_FAST_ENTRY("baseline", baseline, always, nullptr),
};

const KernelTable* best_table() {
  for (const KernelTable& table : tables) {
    if (table.supported()) return &table;
  }
  return nullptr;
}

std::atomic<const KernelTable*> current{best_table()};  // NOLINT: what it calls throws nothing

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const KernelTable& table : tables) names.emplace_back(table.name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const KernelTable& table : tables) {
    if (table.supported()) names.emplace_back(table.name);
  }
  return names;
}

const KernelTable& current_kernels() { return *current.load(std::memory_order_relaxed); }

void choose_isa(const std::string& name) {
  for (const KernelTable& table : tables) {
    if (name != table.name) continue;
    if (!table.supported()) {
      throw std::invalid_argument("this CPU cannot run the instruction set '" + name +
                                  "'; it can run: " + joined(supported_isas()));
    }
    current.store(&table, std::memory_order_relaxed);
    return;
  }
  throw std::invalid_argument("unknown instruction set '" + name + "'; this build has: " + joined(built_isas()));
}

}  // namespace nrc_fast
