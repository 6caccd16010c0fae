#define NRC_FAST_ISA baseline
#include "cpu/residual/kernel.h"
