#include "cpu/machine/isa.h"

#include <atomic>
#include <stdexcept>

#if defined(NRC_FAST_X86)
#include <cpuid.h>
#endif
#if defined(NRC_FAST_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(NRC_FAST_NEONBF16) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(NRC_FAST_NEONBF16)
#include <sys/sysctl.h>
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
  const ProductKernels& product_kernels();   \
  const TargetKernels& target_kernels();     \
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
   isa::product_kernels,                                 \
   isa::target_kernels,                                  \
   isa::descent_float32,                                 \
   isa::descent_float64,                                 \
   gram_pairs}

NRC_FAST_DECLARE(baseline)
#if defined(NRC_FAST_X86)
NRC_FAST_DECLARE(avx2)
NRC_FAST_DECLARE(avx512)
#elif defined(NRC_FAST_ARM64)
NRC_FAST_DECLARE(neon)
#endif

// Of bfloat16 pairs there is a Gram kernel; the rest of such a processor is that of AVX-512, or of NEON.
#if defined(NRC_FAST_ARM64)
#define NRC_FAST_PAIR_HOST neon
#else
#define NRC_FAST_PAIR_HOST avx512
#endif
#define NRC_FAST_DECLARE_PAIRS(isa) \
  namespace isa {                   \
  const PairKernels& gram_pairs();  \
  }
#define NRC_FAST_PAIR_ENTRY(name, isa, is_there) \
  NRC_FAST_ENTRY(name, NRC_FAST_PAIR_HOST, (are_offered<isa::gram_pairs, is_there>), isa::gram_pairs)

#if defined(NRC_FAST_AMX)
NRC_FAST_DECLARE_PAIRS(amx)
#endif
#if defined(NRC_FAST_AVX512BF16)
NRC_FAST_DECLARE_PAIRS(avx512bf16)
#endif
#if defined(NRC_FAST_BFLOAT16_EMULATION)
NRC_FAST_DECLARE_PAIRS(amx_emulated)
NRC_FAST_DECLARE_PAIRS(avx512bf16_emulated)
#endif
#if defined(NRC_FAST_NEONBF16)
NRC_FAST_DECLARE_PAIRS(neonbf16)
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

struct CpuLeaf {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;

  CpuLeaf(unsigned int leaf, unsigned int part) { __get_cpuid_count(leaf, part, &eax, &ebx, &ecx, &edx); }
};

bool has_bit(unsigned int bits, int place) { return (bits >> place & 1U) != 0; }
#endif

#if defined(NRC_FAST_X86) || defined(NRC_FAST_NEONBF16)
// Kernels of pairs that nobody may have run on such a processor yet: once they have multiplied right there.
template <const PairKernels& (*pairs)(), bool (*is_there)()>
bool are_offered() {
  static const bool is_right = is_there() && pairs_are_right(pairs(), NRC_FAST_PAIR_HOST::gram_float32());
  return is_right;
}
#endif

#if defined(NRC_FAST_AVX512BF16)
// Not every compiler's __builtin_cpu_supports knows it by name. The registers are those of AVX-512.
bool has_avx512bf16() { return has_avx512() && has_bit(CpuLeaf(7, 1).eax, 5); }
#endif

#if defined(NRC_FAST_AMX)
// Whether the system saves the tiles of threads: what XGETBV says.
bool saves_tiles() {
  if (!has_bit(CpuLeaf(1, 0).ecx, 27)) return false;
  unsigned int low = 0;   // NOLINT: assembly writes it
  unsigned int high = 0;  // NOLINT: and this
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return has_bit(low, 17) && has_bit(low, 18);
}

// Linux gives tiles to a process that asks for them, with all its threads and children.
bool may_use_tiles() {
  constexpr int request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int tile_data = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

bool has_amx() {
  const unsigned int said = CpuLeaf(7, 0).edx;
  return has_avx512() && has_bit(said, 22) && has_bit(said, 24) && saves_tiles() && may_use_tiles();
}
#endif

#if defined(NRC_FAST_NEONBF16) && defined(__linux__)
bool has_neonbf16() {
  constexpr unsigned long bfloat16 = 1UL << 14;  // HWCAP2_BF16, which older headers do not name
  return (getauxval(AT_HWCAP2) & bfloat16) != 0;
}
#elif defined(NRC_FAST_NEONBF16)
bool has_neonbf16() {
  int is_there = 0;
  std::size_t size = sizeof(is_there);
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &is_there, &size, nullptr, 0) == 0 && is_there != 0;
}
#endif

const KernelTable tables[] = {
#if defined(NRC_FAST_AMX)
    NRC_FAST_PAIR_ENTRY("amx", amx, has_amx),
#endif
#if defined(NRC_FAST_AVX512BF16)
    NRC_FAST_PAIR_ENTRY("avx512bf16", avx512bf16, has_avx512bf16),
#endif
#if defined(NRC_FAST_X86)
    NRC_FAST_ENTRY("avx512", avx512, has_avx512, nullptr),
    NRC_FAST_ENTRY("avx2", avx2, has_avx2, nullptr),
#endif
#if defined(NRC_FAST_NEONBF16)
    NRC_FAST_PAIR_ENTRY("neonbf16", neonbf16, has_neonbf16),
#endif
#if defined(NRC_FAST_ARM64)
    NRC_FAST_ENTRY("neon", neon, always, nullptr),  // every such processor has it
#endif
#if defined(NRC_FAST_BFLOAT16_EMULATION)
    NRC_FAST_PAIR_ENTRY("amx-emulated", amx_emulated, has_avx512),
    NRC_FAST_PAIR_ENTRY("avx512bf16-emulated", avx512bf16_emulated, has_avx512),
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
