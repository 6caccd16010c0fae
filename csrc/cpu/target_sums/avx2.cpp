#define NRC_FAST_ISA avx2
#include "cpu/target_sums/kernel.h"
