"""What the machine code of the CUDA kernels says of their speed: counts of instructions, and bounds that follow."""
