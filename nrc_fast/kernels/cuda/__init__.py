"""The compiled kernels of CUDA devices: cards, memory, launches and the sums that stay there."""
