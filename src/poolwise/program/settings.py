"""The values of the `settings` remedy.

What they are for, how they were chosen and what a user writes instead of using poolwise is in
`poolwise.advise.settings`; `poolwise.program` only hands them to the child.
"""

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8

MALLOC = ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 16 << 20))
GC = (50_000, 20, 10)
