/* sizeclass.h: the rounded sizes of blocks.
 *
 * Four classes a doubling, and a fifth just above each power of two: a payload of 64 KiB with a
 * small header would else take a block of 80 KiB. A size n, seen as its last offset n - 1:
 *
 *     n - 1, rounded up to a granule  =  2^k + rest,   0 <= rest < 2^k
 *     step   0: 2^k + 2^k/16 (the header's room)   1 .. 4: 2^k + step * 2^k/4
 *
 * The granule is a cache line (64 B) up to 4 KiB and a page from there, so that every capacity
 * keeps its neighbour aligned; a step smaller than the granule is never chosen. */
#ifndef PW_SIZECLASS_H
#define PW_SIZECLASS_H

#include <stddef.h>

enum {
    PW_LINE_BYTES = 64,
    PW_PAGE_BYTES = 4096,
    PW_CLASS_STEPS = 5,
    PW_CLASS_FIRST_LOG2 = 5,
    PW_SIZE_MAX_LOG2 = 46 /* the user half of a 47 bit address space */
};

/* Class of a size whose last offset is `last` = size - 1; size is 1 to 2^PW_SIZE_MAX_LOG2. */
static inline size_t
pw_class_index(size_t last)
{
    last |= last < PW_PAGE_BYTES ? PW_LINE_BYTES - 1 : PW_PAGE_BYTES - 1;
    unsigned k = 63u ^ (unsigned)__builtin_clzl(last);
    size_t sixteenths = last >> (k - 4); /* 16 to 31 */
    size_t step = (sixteenths >> 2) - 4 + (sixteenths != 16);
    return (k - PW_CLASS_FIRST_LOG2) * PW_CLASS_STEPS + step;
}

static inline size_t
pw_class_capacity(size_t index)
{
    size_t power = (size_t)1 << (index / PW_CLASS_STEPS + PW_CLASS_FIRST_LOG2);
    size_t step = index % PW_CLASS_STEPS;
    return power + (step == 0 ? power / 16 : step * (power / 4));
}

#endif
