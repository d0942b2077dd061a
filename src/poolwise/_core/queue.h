/* queue.h: one owner pushes and pops at the head, thieves take the oldest at the tail.
 *
 *   slots  [tail ... head)  cap a power of two; indices only grow, and may wrap
 * The deque of Chase and Lev (SPAA 2005) with the memory orders of Le, Pop, Cohen and Zappa
 * Nardelli (PPoPP 2013), their fences folded into the accesses beside them. Only the last item is
 * contended: whoever moves the tail past an item has it. The owner alone writes head, ring and,
 * but for pw_queue_end_period(), low. A thief may still read a ring that was replaced: these live
 * as long as the queue (together they are smaller than the one in use). */
#ifndef PW_QUEUE_H
#define PW_QUEUE_H

#include <stdlib.h>

#include "atomics.h"
#include "checked.h"

enum { PW_RING_FIRST = 16 };

typedef struct pw_ring pw_ring;

struct pw_ring {
    size_t cap;
    pw_ring *older;
    void *slots[];
};

typedef struct {
    size_t head;
    size_t low; /* the fewest that were in since the last period began, as far as the owner saw */
    pw_ring *ring;
    PW_OWN_LINES size_t tail;
} pw_queue;

/* How many are in; while others work on it, how many were. */
static inline size_t
pw_queue_length(const pw_queue *queue)
{
    ptrdiff_t length = (ptrdiff_t)(pw_load_acquire(&queue->head) - pw_load_acquire(&queue->tail));
    return length > 0 ? (size_t)length : 0;
}

static inline bool
pw_queue_check(const pw_queue *queue)
{
    size_t cap = queue->ring == NULL ? 0 : queue->ring->cap;
    return pw_queue_length(queue) <= cap && (cap & (cap - 1)) == 0;
}

static inline bool
pw_queue_grow_owner(pw_queue *queue, size_t head, size_t tail)
{
    pw_ring *ring = queue->ring, *larger = NULL;
    size_t cap = ring == NULL ? PW_RING_FIRST : ring->cap * 2, bytes;
    if (pw_mul_size(cap, sizeof(void *), &bytes) && pw_add_size(bytes, sizeof(*larger), &bytes)) {
        larger = malloc(bytes);
    }
    if (larger == NULL) {
        return false;
    }
    larger->cap = cap;
    larger->older = ring;
    for (size_t i = tail; i != head; i++) {
        larger->slots[i & (cap - 1)] = pw_load_relaxed(&ring->slots[i & (ring->cap - 1)]);
    }
    pw_store_release(&queue->ring, larger);
#if !PW_ATOMICS
    free(ring);
    larger->older = NULL;
#endif
    return true;
}

/* False: no memory, and nothing has changed. */
static inline bool
pw_queue_push_owner(pw_queue *queue, void *item)
{
    size_t head = pw_load_relaxed(&queue->head), tail = pw_load_acquire(&queue->tail);
    if ((queue->ring == NULL || head - tail >= queue->ring->cap) &&
        !pw_queue_grow_owner(queue, head, tail)) {
        return false;
    }
    pw_ring *ring = queue->ring;
    pw_store_relaxed(&ring->slots[head & (ring->cap - 1)], item);
    pw_store_release(&queue->head, head + 1);
    return true;
}

/* The newest; NULL: empty. */
static inline void *
pw_queue_pop_owner(pw_queue *queue)
{
    size_t head = pw_load_relaxed(&queue->head);
    if (head == pw_load_relaxed(&queue->tail)) {
        pw_store_relaxed(&queue->low, 0);
        return NULL;
    }
    head--;
    pw_store_ordered(&queue->head, head);
    size_t tail = pw_load_ordered(&queue->tail);
    ptrdiff_t left = (ptrdiff_t)(head - tail);
    void *item = NULL;
    if (left >= 0) {
        item = pw_load_relaxed(&queue->ring->slots[head & (queue->ring->cap - 1)]);
    }
    if (PW_ATOMICS && left <= 0) { /* the last one, or a thief had it */
        if (left < 0 || !pw_replace(&queue->tail, tail, tail + 1)) {
            item = NULL;
        }
        pw_store_release(&queue->head, head + 1);
        left = 0;
    }
    if ((size_t)left < pw_load_relaxed(&queue->low)) {
        pw_store_relaxed(&queue->low, (size_t)left);
    }
    return item;
}

/* The oldest; NULL: empty, or another took it. Any thread. */
static inline void *
pw_queue_steal(pw_queue *queue)
{
    size_t tail = pw_load_ordered(&queue->tail);
    if ((ptrdiff_t)(pw_load_ordered(&queue->head) - tail) <= 0) {
        return NULL;
    }
    pw_ring *ring = pw_load_acquire(&queue->ring);
    void *item = pw_load_relaxed(&ring->slots[tail & (ring->cap - 1)]);
    return pw_replace(&queue->tail, tail, tail + 1) ? item : NULL;
}

/* How many were in all through the period that ends here; the next begins. */
static inline size_t
pw_queue_end_period(pw_queue *queue)
{
    size_t length = pw_queue_length(queue), low = pw_load_relaxed(&queue->low);
    pw_store_relaxed(&queue->low, length);
    return low < length ? low : length;
}

/* Nobody else knows the queue any more, and it is empty. */
static inline void
pw_queue_free(pw_queue *queue)
{
    while (queue->ring != NULL) {
        pw_ring *ring = queue->ring;
        queue->ring = ring->older;
        free(ring);
    }
}

#endif
