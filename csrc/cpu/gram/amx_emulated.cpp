#define NRC_FAST_ISA amx_emulated
#define NRC_FAST_EMULATED_BFLOAT16
#include "cpu/gram/amx_kernel.h"
