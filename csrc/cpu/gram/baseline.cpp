#define NRC_FAST_ISA baseline
#include "cpu/gram/kernel.h"
