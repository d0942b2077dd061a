"""The values of the `settings` remedy.

What they are for, how they were chosen and what a user writes instead of using poolwise is in
`poolwise.advise.settings`; `poolwise.program` only hands them to the child.
"""

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

# In this order: a glibc before 2.35 refuses more than 32 MiB as threshold and keeps the first.
MALLOC = (
    (M_MMAP_THRESHOLD, 32 << 20),
    (M_MMAP_THRESHOLD, 256 << 20),
    (M_TRIM_THRESHOLD, 512 << 20),
    (M_TOP_PAD, 64 << 20),
)
GC = (50_000, 20, 10)
