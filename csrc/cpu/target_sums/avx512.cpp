#define NRC_FAST_ISA avx512
#include "cpu/target_sums/kernel.h"
