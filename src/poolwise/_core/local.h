/* local.h: the part of a pool that one thread owns (GIL build: the whole of it).
 *
 *   private  newest, second   owner only; two deep, since in the loop that everybody writes the
 *                             caller's variable still holds the newest at the next get
 *   shared   [tail ... head)  owner pushes and pops at head; the oldest goes at tail
 *   held     met while somebody else still held them; looked at again at trims and before a miss
 * Invariant: tail <= head (as they wrap), head - tail <= cap, cap a power of two or 0,
 * shared_low <= head - tail (see pw_local_check()).
 * Nothing is counted where only the private part moves: what is idle follows from the structure.
 * Take out first, then look: an item is nobody's between the two.
 * Guard of every field: the owner (the GIL, or the pool's critical section). */
#ifndef PW_LOCAL_H
#define PW_LOCAL_H

#include <stdlib.h>

#include "checked.h"

enum { PW_HELD_MAX = 32, PW_LOOK_MAX = 8, PW_PINS_MAX = 3, PW_RING_FIRST = 16 };

typedef struct {
    void *item;
    unsigned pins; /* trims that found it held */
} pw_held;

typedef struct {
    void *newest;
    void *second;
    size_t head, tail, cap;
    size_t shared_low; /* fewest that were in shared since the last trim */
    void **ring;
    size_t held_count;
    pw_held held[PW_HELD_MAX];
} pw_local;

/* Whether nobody but the pool has the item. */
typedef bool pw_is_free(void *item);

static inline size_t
pw_local_private(const pw_local *local)
{
    return (size_t)(local->newest != NULL) + (size_t)(local->second != NULL);
}

static inline size_t
pw_local_shared(const pw_local *local)
{
    return local->head - local->tail;
}

static inline size_t
pw_local_idle(const pw_local *local)
{
    return pw_local_private(local) + pw_local_shared(local);
}

static inline bool
pw_local_check(const pw_local *local)
{
    return pw_local_shared(local) <= local->cap && (local->cap & (local->cap - 1)) == 0 &&
           local->shared_low <= pw_local_shared(local) && local->held_count <= PW_HELD_MAX;
}

static inline void
pw_local_note_low(pw_local *local)
{
    if (pw_local_shared(local) < local->shared_low) {
        local->shared_low = pw_local_shared(local);
    }
}

/* The newest that is free, of the two private ones; NULL: neither. */
static inline void *
pw_local_pop_private_owner(pw_local *local, pw_is_free *is_free)
{
    void *item = local->newest;
    if (PW_LIKELY(item != NULL)) {
        local->newest = NULL;
        if (is_free(item)) {
            return item;
        }
        local->newest = item;
    }
    item = local->second;
    if (PW_LIKELY(item != NULL)) {
        local->second = NULL;
        if (is_free(item)) {
            return item;
        }
        local->second = item;
    }
    return NULL;
}

static inline void *
pw_local_pop_shared_owner(pw_local *local)
{
    if (local->head == local->tail) {
        return NULL;
    }
    void *item = local->ring[--local->head & (local->cap - 1)];
    pw_local_note_low(local);
    return item;
}

static inline bool
pw_local_grow_owner(pw_local *local)
{
    size_t cap = local->cap == 0 ? PW_RING_FIRST : local->cap * 2, bytes;
    void **ring = pw_mul_size(cap, sizeof(void *), &bytes) ? malloc(bytes) : NULL;
    if (ring == NULL) {
        return false;
    }
    for (size_t i = local->tail; i != local->head; i++) {
        ring[i & (cap - 1)] = local->ring[i & (local->cap - 1)];
    }
    free(local->ring);
    local->ring = ring;
    local->cap = cap;
    return true;
}

/* Makes `item` the newest, if the private part has room. */
static inline bool
pw_local_push_private_owner(pw_local *local, void *item)
{
    void *newest = local->newest;
    if (newest != NULL) {
        if (local->second != NULL) {
            return false;
        }
        local->second = newest;
    }
    local->newest = item;
    return true;
}

/* Makes `item` the newest, and the second of a full private part shared. False: no memory, and
 * nothing has changed. */
static inline bool
pw_local_push_owner(pw_local *local, void *item)
{
    if (pw_local_push_private_owner(local, item)) {
        return true;
    }
    if (pw_local_shared(local) == local->cap && !pw_local_grow_owner(local)) {
        return false;
    }
    local->ring[local->head++ & (local->cap - 1)] = local->second;
    local->second = local->newest;
    local->newest = item;
    return true;
}

/* Makes `item` the oldest: it was idle all the time. False: no memory. */
static inline bool
pw_local_push_oldest_owner(pw_local *local, void *item)
{
    if (pw_local_shared(local) == local->cap && !pw_local_grow_owner(local)) {
        return false;
    }
    local->ring[--local->tail & (local->cap - 1)] = item;
    return true;
}

/* The item idle for longest, whoever holds it; NULL: none is idle. */
static inline void *
pw_local_take_oldest_owner(pw_local *local)
{
    void *item = NULL;
    if (local->head != local->tail) {
        item = local->ring[local->tail++ & (local->cap - 1)];
        pw_local_note_low(local);
    } else if (local->second != NULL) {
        item = local->second;
        local->second = NULL;
    } else if (local->newest != NULL) {
        item = local->newest;
        local->newest = NULL;
    }
    return item;
}

/* Puts a taken item aside. False: there is no room, and the item is the caller's. */
static inline bool
pw_local_hold_owner(pw_local *local, void *item, unsigned pins)
{
    if (local->held_count == PW_HELD_MAX) {
        return false;
    }
    local->held[local->held_count++] = (pw_held){item, pins};
    return true;
}

static inline pw_held
pw_local_unhold_owner(pw_local *local, size_t at)
{
    pw_held held = local->held[at];
    local->held[at] = local->held[--local->held_count];
    return held;
}

#endif
