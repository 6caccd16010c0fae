#define NRC_FAST_ISA baseline
#include "cpu/descent/kernel.h"
