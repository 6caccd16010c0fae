#define NRC_FAST_ISA avx512
#include "cpu/descent/kernel.h"
