#define NRC_FAST_ISA avx512
#include "cpu/residual/kernel.h"
