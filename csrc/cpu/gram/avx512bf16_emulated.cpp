#define NRC_FAST_ISA avx512bf16_emulated
#define NRC_FAST_EMULATED_BFLOAT16
#include "cpu/gram/pair_kernel.h"
