#define NRC_FAST_ISA neon
#include "cpu/descent/kernel.h"
