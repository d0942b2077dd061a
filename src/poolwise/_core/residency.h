/* residency.h: how many pages of a block have memory behind them (mincore).
 *
 * Counted at birth and again just before the free, the difference is the page faults that the
 * block really cost: blocks that are never touched cost none, however large they are. */
#ifndef PW_RESIDENCY_H
#define PW_RESIDENCY_H

#include <stdint.h>
#include <sys/mman.h>

#define PW_PAGE_BYTES 4096u
#define PW_RESIDENCY_MIN_BYTES (4 * PW_PAGE_BYTES)
#define PW_RESIDENCY_WINDOW 1024u /* pages asked at once */
#define PW_RESIDENCY_WINDOWS 16u

/* Whole pages inside the block. */
static inline uint32_t
pw_whole_pages(uintptr_t address, uint64_t bytes)
{
    uintptr_t first = (address + PW_PAGE_BYTES - 1) / PW_PAGE_BYTES;
    uintptr_t last = (address + bytes) / PW_PAGE_BYTES;
    return last > first ? (uint32_t)(last - first) : 0;
}

/* Above 64 MiB: an estimate from 16 windows spread evenly over the block. */
static inline uint32_t
pw_resident_pages(uintptr_t address, uint64_t bytes)
{
    unsigned char resident[PW_RESIDENCY_WINDOW];
    uint32_t pages = pw_whole_pages(address, bytes);
    uintptr_t first = (address + PW_PAGE_BYTES - 1) & ~(uintptr_t)(PW_PAGE_BYTES - 1);
    uint32_t windows = (pages + PW_RESIDENCY_WINDOW - 1) / PW_RESIDENCY_WINDOW;
    uint32_t stride = windows > PW_RESIDENCY_WINDOWS ? windows / PW_RESIDENCY_WINDOWS : 1;
    uint64_t asked = 0, found = 0;
    for (uint32_t window = 0; window < windows; window += stride) {
        uint32_t begin = window * PW_RESIDENCY_WINDOW;
        uint32_t count = pages - begin < PW_RESIDENCY_WINDOW ? pages - begin : PW_RESIDENCY_WINDOW;
        if (mincore((void *)(first + (uintptr_t)begin * PW_PAGE_BYTES),
                    (size_t)count * PW_PAGE_BYTES, resident) != 0) {
            continue; /* not (or no longer) a mapping: nothing resident */
        }
        for (uint32_t i = 0; i < count; i++) {
            found += resident[i] & 1u;
        }
        asked += count;
    }
    return asked ? (uint32_t)(found * pages / asked) : 0;
}

#endif
