#define NRC_FAST_ISA avx2
#include "cpu/residual/kernel.h"
