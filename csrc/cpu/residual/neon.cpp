#define NRC_FAST_ISA neon
#include "cpu/residual/kernel.h"
