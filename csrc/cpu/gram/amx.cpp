#define NRC_FAST_ISA amx
#include "cpu/gram/amx_kernel.h"
