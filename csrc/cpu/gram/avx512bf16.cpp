#define NRC_FAST_ISA avx512bf16
#include "cpu/gram/pair_kernel.h"
