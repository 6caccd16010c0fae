#define NRC_FAST_ISA avx2
#include "cpu/residual_kernel.h"
