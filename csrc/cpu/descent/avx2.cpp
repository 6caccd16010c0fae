#define NRC_FAST_ISA avx2
#include "cpu/descent/kernel.h"
