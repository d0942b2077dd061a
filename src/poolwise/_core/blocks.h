/* blocks.h: blocks of memory carved from large mappings of our own.
 *
 * One mapping a block would exhaust vm.max_map_count (65,530), so the blocks of one class come
 * from slabs. A slab is one mapping: its table of blocks, then the blocks.
 *
 *   slab  [ table, lazily touched | block | block | ... | not yet carved ]
 *   block  out      somebody has it                        \  warm: counts against the budget
 *          idle     in its class's list, newest first      |
 *          doomed   in its class's list, to be cooled      /
 *          cold     in its slab's list, its pages given back (MADV_DONTNEED: MADV_FREE would
 *                   leave RSS as it is)
 * Invariant: slab->warm = carved - cold. A slab without a warm block is unmapped.
 * A slab is in its class's open list while it has a cold or an uncarved block.
 * Blocks below a page share pages: these go back with the slab alone.
 *
 * Guard of every field: the owner of the pool (the GIL, or its critical section). */
#ifndef PW_BLOCKS_H
#define PW_BLOCKS_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "atomics.h"
#include "checked.h"
#include "sizeclass.h"

typedef struct pw_block pw_block;
typedef struct pw_class pw_class;
typedef struct pw_slab pw_slab;

struct pw_block {
    char *start;
    size_t capacity; /* bytes */
    pw_block *next;  /* in whichever list the block is */
    pw_class *cls;   /* of a fallback: what its owner says */
    pw_slab *slab;   /* NULL: a fallback */
    uint64_t round;  /* of its class, when it became idle */
    bool poisoned;   /* while idle: all its bytes are the owner's pattern */
    bool sampled;    /* to be poisoned when it comes back, or poisoned already */
};

struct pw_class {
    pw_block *idle;
    uint64_t round;   /* trims so far */
    size_t capacity;  /* bytes of each block */
    bool careful;     /* for the owner: a block that comes back needs more than to be pushed */
    bool huge;        /* its slabs ask for huge pages */
    int advice_errno; /* why the kernel would not hear of them; 0: it would */
    size_t warm_count;
    size_t high_water; /* the most that were warm; at that time all were out */
    pw_block *doomed;
    pw_slab *open;
    /* what the users of its blocks told: how many leases, bytes of these and bytes used; how many
     * of the last ones, in a row, used less than half */
    uint64_t reported, reported_bytes, used_bytes;
    unsigned bad_streak;
};

struct pw_slab {
    size_t map_bytes;
    char *first; /* start of block 0 */
    size_t room; /* blocks */
    size_t carved;
    size_t warm;
    pw_block *cold;
    pw_class *cls;
    pw_slab *prev, *next; /* in cls->open */
    bool open;
    pw_block table[];
};

enum {
    PW_HUGE_BYTES = 2 << 20,
    PW_SMALL_SLAB_BYTES = 256 << 10,
    PW_SLAB_BYTES = 1 << 20,
    PW_SLAB_MAX_BYTES = 64 << 20
};

static inline size_t
pw_round_up(size_t bytes, size_t granule)
{
    return (bytes + granule - 1) & ~(granule - 1);
}

/* How many blocks of this class one slab holds: no more than the budget allows. */
static inline size_t
pw_slab_room(size_t capacity, size_t budget_bytes)
{
    size_t bytes = capacity < PW_PAGE_BYTES  ? PW_SMALL_SLAB_BYTES
                   : capacity <= (64u << 10) ? PW_SLAB_BYTES
                                             : capacity * 16;
    if (bytes > PW_SLAB_MAX_BYTES) {
        bytes = PW_SLAB_MAX_BYTES;
    }
    if (bytes > budget_bytes) {
        bytes = budget_bytes;
    }
    return bytes < capacity ? 1 : bytes / capacity;
}

static inline void *
pw_map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static inline void
pw_slab_link(pw_slab *slab)
{
    slab->prev = NULL;
    slab->next = slab->cls->open;
    if (slab->next != NULL) {
        slab->next->prev = slab;
    }
    slab->cls->open = slab;
    slab->open = true;
}

static inline void
pw_slab_unlink(pw_slab *slab)
{
    if (slab->prev != NULL) {
        slab->prev->next = slab->next;
    } else {
        slab->cls->open = slab->next;
    }
    if (slab->next != NULL) {
        slab->next->prev = slab->prev;
    }
    slab->open = false;
}

static inline pw_slab *
pw_slab_new(pw_class *cls, size_t room)
{
    size_t table_bytes = pw_round_up(sizeof(pw_slab) + room * sizeof(pw_block), PW_PAGE_BYTES);
    size_t blocks_bytes, map_bytes;
    if (!pw_mul_size(room, pw_round_up(cls->capacity, PW_LINE_BYTES), &blocks_bytes) ||
        !pw_add_size(table_bytes, blocks_bytes, &map_bytes)) {
        return NULL;
    }
    size_t slack = cls->huge ? PW_HUGE_BYTES : 0; /* so that `first` can be aligned */
    if (!pw_add_size(map_bytes, slack, &map_bytes)) {
        return NULL;
    }
    pw_slab *slab = pw_map(map_bytes);
    if (slab == NULL) {
        return NULL;
    }
    slab->map_bytes = map_bytes; /* a fresh mapping is all zero */
    slab->first = (char *)slab + table_bytes;
    if (cls->huge) {
        slab->first = (char *)pw_round_up((uintptr_t)slab->first, PW_HUGE_BYTES);
        if (madvise(slab->first, blocks_bytes, MADV_HUGEPAGE) < 0) {
            cls->advice_errno = errno;
        }
    }
    slab->room = room;
    slab->cls = cls;
    pw_slab_link(slab);
    return slab;
}

/* Makes one more block of the class warm: a cold one, else a newly carved one. NULL: no memory. */
static inline pw_block *
pw_class_warm_one(pw_class *cls, size_t budget_bytes)
{
    pw_slab *slab = cls->open;
    if (slab == NULL) {
        slab = pw_slab_new(cls, pw_slab_room(cls->capacity, budget_bytes));
        if (slab == NULL) {
            slab = pw_slab_new(cls, 1); /* address space is short */
        }
        if (slab == NULL) {
            return NULL;
        }
    }
    pw_block *block = slab->cold;
    if (block != NULL) {
        slab->cold = block->next;
        block->poisoned = block->sampled = false;
    } else {
        block = &slab->table[slab->carved];
        block->start = slab->first + slab->carved * cls->capacity;
        block->capacity = cls->capacity;
        block->slab = slab;
        slab->carved++;
    }
    block->cls = cls;
    slab->warm++;
    cls->warm_count++;
    if (cls->warm_count > cls->high_water) {
        cls->high_water = cls->warm_count;
    }
    if (slab->cold == NULL && slab->carved == slab->room) {
        pw_slab_unlink(slab);
    }
    return block;
}

/* Gives the memory of a warm block that is in no list back to the kernel. */
static inline void
pw_block_cool(pw_block *block)
{
    pw_slab *slab = block->slab;
    slab->cls->warm_count--;
    slab->warm--;
    if (slab->warm == 0) {
        if (slab->open) {
            pw_slab_unlink(slab);
        }
        munmap(slab, slab->map_bytes);
        return;
    }
    block->next = slab->cold;
    slab->cold = block;
    if (!slab->open) {
        pw_slab_link(slab);
    }
    if (block->capacity >= PW_PAGE_BYTES) {
        madvise(block->start, block->capacity, MADV_DONTNEED);
    }
}

static inline void
pw_class_push_owner(pw_class *cls, pw_block *block)
{
    block->round = cls->round;
    block->next = cls->idle;
    cls->idle = block;
}

/* The caller has seen that cls->idle is not NULL. */
static inline pw_block *
pw_class_pop_owner(pw_class *cls)
{
    pw_block *block = cls->idle;
    cls->idle = block->next;
    return block;
}

/* An idle block, else a doomed one: both are warm. NULL: none. */
static inline pw_block *
pw_class_pop_any_owner(pw_class *cls)
{
    pw_block **from = cls->idle != NULL ? &cls->idle : &cls->doomed;
    pw_block *block = *from;
    if (block != NULL) {
        *from = block->next;
    }
    return block;
}

static inline size_t
pw_list_length(const pw_block *block)
{
    size_t length = 0;
    for (; block != NULL; block = block->next) {
        length++;
    }
    return length;
}

/* Ends the round: dooms the older half of the blocks that were idle all through it. As the newest
 * goes first, these lie at the end of the list, and are as many as the fewest that were idle: the
 * count that `demand` needs costs the hot path one store. */
static inline void
pw_class_trim(pw_class *cls)
{
    pw_block **end = &cls->idle;
    while (*end != NULL && (*end)->round == cls->round) {
        end = &(*end)->next;
    }
    for (size_t keep = pw_list_length(*end) / 2; keep > 0; keep--) {
        end = &(*end)->next;
    }
    pw_block *last = *end;
    if (last != NULL) {
        while (last->next != NULL) {
            last = last->next;
        }
        last->next = cls->doomed;
        cls->doomed = *end;
        *end = NULL;
    }
    pw_store_relaxed(&cls->round, cls->round + 1);
}

static inline void
pw_class_doom_all(pw_class *cls)
{
    pw_block *block;
    while ((block = cls->idle) != NULL) {
        cls->idle = block->next;
        block->next = cls->doomed;
        cls->doomed = block;
    }
}

/* A block of `bytes` that belongs to no class; NULL: no memory. Aligned as the others are. */
static inline pw_block *
pw_fallback_new(size_t bytes)
{
    size_t granule = bytes < PW_PAGE_BYTES ? PW_LINE_BYTES : PW_PAGE_BYTES;
    size_t padded;
    if (!pw_add_size(bytes, granule, &padded)) {
        return NULL;
    }
    size_t capacity = pw_round_up(bytes == 0 ? 1 : bytes, granule);
    pw_block *block = calloc(1, sizeof(pw_block));
    if (block == NULL) {
        return NULL;
    }
    block->capacity = capacity;
    block->start = capacity < PW_PAGE_BYTES ? aligned_alloc(granule, capacity) : pw_map(capacity);
    if (block->start == NULL) {
        free(block);
        return NULL;
    }
    if (capacity < PW_PAGE_BYTES) {
        memset(block->start, 0, capacity); /* as a mapping is: malloc's holds what others left */
    }
    return block;
}

static inline void
pw_fallback_free(pw_block *block)
{
    if (block->capacity < PW_PAGE_BYTES) {
        free(block->start);
    } else {
        munmap(block->start, block->capacity);
    }
    free(block);
}

#endif
