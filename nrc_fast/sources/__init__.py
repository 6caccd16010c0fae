"""Sources: anything that features come from, as a stream of chunks that can be read again.

Only arrays in memory (numpy, torch, memory maps) are here so far.
"""

from nrc_fast.sources.array import ArraySource, Chunk

__all__ = ["ArraySource", "Chunk"]
