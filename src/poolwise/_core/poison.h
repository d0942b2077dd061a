/* poison.h: a pattern in idle blocks, by which a late write shows.
 *
 * Who keeps a raw address (ctypes, an extension that took no view) can write to a block after its
 * release. The pattern is 0xDB, or 0 in pools that clear at release: then it is the clearing. */
#ifndef PW_POISON_H
#define PW_POISON_H

#include <stddef.h>
#include <string.h>

enum { PW_POISON = 0xDB };

/* Offset of the first byte that is not `pattern`; `bytes` where all are. */
static inline size_t
pw_first_changed(const char *start, size_t bytes, unsigned char pattern)
{
    const unsigned char *at = (const unsigned char *)start;
    if (bytes == 0 || (at[0] == pattern && memcmp(at, at + 1, bytes - 1) == 0)) {
        return bytes;
    }
    size_t i = 0;
    while (at[i] == pattern) {
        i++;
    }
    return i;
}

#endif
