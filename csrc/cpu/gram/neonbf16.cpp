#define NRC_FAST_ISA neonbf16
#include "cpu/gram/pair_kernel.h"
