#define NRC_FAST_ISA baseline
#include "cpu/target_sums/kernel.h"
