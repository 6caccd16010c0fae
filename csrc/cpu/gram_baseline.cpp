#define NRC_FAST_ISA baseline
#include "cpu/gram_kernel.h"
