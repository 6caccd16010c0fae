#define NRC_FAST_ISA avx2
#include "cpu/descent_kernel.h"
