#define NRC_FAST_ISA neon
#include "cpu/gram/kernel.h"
