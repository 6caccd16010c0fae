#define NRC_FAST_ISA neon
#include "cpu/target_sums/kernel.h"
