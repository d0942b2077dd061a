/* mapped.h: memory straight from the kernel, touched at once, and not for the child of a fork.
 *
 * The sampler must not cure its patient: one large block malloc'ed and freed moves glibc's
 * thresholds and makes a slow program fast. So nothing of the sampler is ever malloc'ed, and its
 * page faults all happen at start, where they can be told apart from the program's. A fork would
 * bring them all back, page by page, in the parent: none of this is copied. */
#ifndef PW_MAPPED_H
#define PW_MAPPED_H

#include <stddef.h>
#include <sys/mman.h>

static inline void *
pw_map_populated(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, bytes, MADV_DONTFORK); /* a copy of it costs, and harms nobody */
    return memory;
}

#endif
