/* buffer_front.c: what each thread keeps at hand of a BufferPool, on builds without the GIL.
 *
 *   front   shelves   of each class some idle blocks, newest first
 *           spare     dead Buffers
 *
 * A hit takes from the front of its own thread and gives back to it, so threads that hit share no
 * line of memory. Others reach in when they need to: trims, a miss that steals, a pool that closes.
 * Hence a lock, which its own thread nearly always finds open; it is held for some stores, and
 * never while Python runs. Order: the pool's critical section, then a front's lock.
 *
 * What changes for everybody (`careful`, `size_limit`, `orphaned`) is stored before the fronts are
 * emptied, and read with the front's lock held: so nothing comes to lie in a front after that.
 *
 * Magazines: Bonwick and Adams, "Magazines and Vmem", 2001. */
#include "buffer.h"

#if PW_ATOMICS

#include <sched.h>

/* Blocks of one class, and Buffers; half of them go to the pool when a front is full. */
enum { SHELF_BLOCKS = 8, FRONT_SPARES = 16, RECENT_FRONTS = 2 };

typedef struct {
    pw_block *idle; /* newest first */
    size_t count;
} pw_shelf;

struct pw_front {
    PW_OWN_LINES unsigned char lock;
    unsigned spares;
    pw_buffer *spare;
    uint64_t hits;
    pw_front *next; /* of the same pool; constant */
    pw_owned owned;
    pw_fork_lock fork_lock;
    pw_shelf shelves[]; /* of each class */
};

static _Thread_local struct {
    uint64_t serial;
    pw_front *front;
} recent[RECENT_FRONTS] __attribute__((tls_model("initial-exec")));

static inline void
lock_front(pw_front *front)
{
    while (PW_UNLIKELY(__atomic_exchange_n(&front->lock, 1, __ATOMIC_ACQUIRE))) {
        sched_yield();
    }
}

static inline void
unlock_front(pw_front *front)
{
    pw_store_release(&front->lock, 0);
}

/* ---- whose front ---- */

static pw_front *
new_front(pw_buffer_pool *self, pw_owner *owner)
{
    size_t bytes = sizeof(pw_front) + self->class_count * sizeof(pw_shelf);
    pw_front *front = aligned_alloc(_Alignof(pw_front), pw_round_up(bytes, _Alignof(pw_front)));
    if (front == NULL) {
        return NULL;
    }
    memset(front, 0, bytes);
    front->next = self->fronts;
    pw_fork_lock_add(&front->fork_lock, &front->lock);
    pw_give_to(&front->owned, owner);
    pw_store_release(&self->fronts, front);
    return front;
}

static __attribute__((noinline)) pw_front *
find_front(pw_buffer_pool *self)
{
    pw_owner *owner = pw_owner_current();
    if (owner == NULL) {
        return NULL;
    }
    pw_front *own = NULL, *orphan = NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    for (pw_front *front = self->fronts; front != NULL && own == NULL; front = front->next) {
        pw_owner *its = pw_owner_of(&front->owned);
        own = its == owner ? front : NULL;
        orphan = its == NULL ? front : orphan;
    }
    if (own == NULL && orphan != NULL) {
        pw_give_to(&orphan->owned, owner);
        own = orphan;
    }
    own = own != NULL ? own : new_front(self, owner);
    Py_END_CRITICAL_SECTION();
    if (own != NULL) {
        recent[self->serial % RECENT_FRONTS].serial = self->serial;
        recent[self->serial % RECENT_FRONTS].front = own;
    }
    return own;
}

/* The calling thread's; NULL: no memory. */
static inline pw_front *
front_of(pw_buffer_pool *self)
{
    if (PW_LIKELY(recent[self->serial % RECENT_FRONTS].serial == self->serial)) {
        return recent[self->serial % RECENT_FRONTS].front;
    }
    return find_front(self);
}

/* Whether acquire would take from a front. */
static inline bool
used(const pw_buffer_pool *self)
{
    return self->checks == PW_CHECKS_OFF && pw_load_relaxed(&self->size_limit) != 0;
}

/* ---- hits ---- */

pw_buffer *
pw_front_acquire(pw_buffer_pool *self, size_t last)
{
    pw_front *front = used(self) ? front_of(self) : NULL;
    if (front == NULL) {
        return NULL;
    }
    pw_buffer *buffer = NULL;
    lock_front(front);
    if (last < pw_load_relaxed(&self->size_limit) && front->spare != NULL) {
        pw_shelf *shelf = &front->shelves[pw_class_for(self, last) - self->classes];
        pw_block *block = shelf->idle;
        if (block != NULL) {
            buffer = front->spare;
            front->spare = buffer->next;
            front->spares--;
            shelf->idle = block->next;
            shelf->count--;
            pw_store_relaxed(&front->hits, front->hits + 1);
            pw_revive((PyObject *)buffer);
            pw_hand_out(buffer, block, last + 1);
        }
    }
    unlock_front(front);
    return buffer;
}

bool
pw_front_return(pw_buffer_pool *self, pw_block *block, pw_buffer *spare)
{
    pw_front *front = used(self) && !pw_load_relaxed(&self->orphaned) ? front_of(self) : NULL;
    if (front == NULL) {
        return false;
    }
    bool kept = false;
    lock_front(front);
    pw_class *cls = block != NULL ? block->cls : NULL;
    if (!pw_load_relaxed(&self->orphaned) && (cls == NULL || !pw_load_relaxed(&cls->careful)) &&
        (spare == NULL || front->spares < FRONT_SPARES)) {
        pw_shelf *shelf = cls != NULL ? &front->shelves[cls - self->classes] : NULL;
        kept = shelf == NULL || shelf->count < SHELF_BLOCKS;
        if (kept && shelf != NULL) {
            block->round = pw_load_relaxed(&cls->round);
            block->next = shelf->idle;
            shelf->idle = block;
            shelf->count++;
        }
        if (kept && spare != NULL) {
            spare->block = NULL;
            spare->next = front->spare;
            front->spare = spare;
            front->spares++;
        }
    }
    unlock_front(front);
    return kept;
}

/* ---- between a front and its pool, in the pool's section ---- */

/* Idle blocks of a front, newest first, into the class's list, in which those of this round stand
 * before all others. */
static void
merge(pw_class *cls, pw_block *blocks)
{
    pw_block **end = &blocks;
    while (*end != NULL && (*end)->round == cls->round) {
        end = &(*end)->next;
    }
    pw_block *older = *end;
    *end = cls->idle;
    cls->idle = blocks;
    if (older == NULL) {
        return;
    }
    pw_block **at = &cls->idle, *last = older;
    while (*at != NULL && (*at)->round == cls->round) {
        at = &(*at)->next;
    }
    while (last->next != NULL) {
        last = last->next;
    }
    last->next = *at;
    *at = older;
}

void
pw_front_make_room(pw_buffer_pool *self, pw_class *cls)
{
    pw_front *front = used(self) ? front_of(self) : NULL;
    if (front == NULL) {
        return;
    }
    pw_block *older = NULL;
    lock_front(front);
    pw_shelf *shelf = cls != NULL ? &front->shelves[cls - self->classes] : NULL;
    if (shelf != NULL && shelf->count >= SHELF_BLOCKS) {
        pw_block **end = &shelf->idle;
        for (shelf->count = 0; shelf->count < SHELF_BLOCKS / 2 && *end != NULL; shelf->count++) {
            end = &(*end)->next;
        }
        older = *end;
        *end = NULL;
    }
    for (; front->spares > FRONT_SPARES / 2; front->spares--) {
        pw_buffer *spare = front->spare;
        front->spare = spare->next;
        spare->next = self->spare;
        self->spare = spare;
    }
    unlock_front(front);
    if (older != NULL) {
        merge(cls, older);
    }
}

void
pw_front_refill(pw_buffer_pool *self, pw_class *cls)
{
    pw_front *front = used(self) ? front_of(self) : NULL;
    if (front == NULL) {
        return;
    }
    lock_front(front);
    pw_shelf *shelf = &front->shelves[cls - self->classes];
    if (shelf->idle == NULL && !pw_load_relaxed(&cls->careful)) {
        pw_block **end = &cls->idle;
        for (shelf->count = 0; shelf->count < SHELF_BLOCKS / 2 && *end != NULL; shelf->count++) {
            end = &(*end)->next;
        }
        shelf->idle = shelf->count > 0 ? cls->idle : NULL;
        cls->idle = *end;
        if (shelf->count > 0) {
            *end = NULL;
        }
    }
    while (front->spares < FRONT_SPARES / 2 && self->spare != NULL) {
        pw_buffer *spare = self->spare;
        self->spare = spare->next;
        spare->next = front->spare;
        front->spare = spare;
        front->spares++;
    }
    unlock_front(front);
}

pw_block *
pw_fronts_steal(pw_buffer_pool *self, const pw_class *cls)
{
    pw_block *block = NULL;
    for (pw_front *front = self->fronts; front != NULL && block == NULL; front = front->next) {
        lock_front(front);
        pw_shelf *shelf = &front->shelves[cls - self->classes];
        block = shelf->idle;
        if (block != NULL) {
            shelf->idle = block->next;
            shelf->count--;
        }
        unlock_front(front);
    }
    return block;
}

void
pw_fronts_empty(pw_buffer_pool *self)
{
    for (pw_front *front = self->fronts; front != NULL; front = front->next) {
        lock_front(front);
        for (size_t i = 0; i < self->class_count; i++) {
            merge(&self->classes[i], front->shelves[i].idle);
            front->shelves[i] = (pw_shelf){NULL, 0};
        }
        pw_buffer **end = &front->spare;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = self->spare;
        self->spare = front->spare;
        front->spare = NULL;
        front->spares = 0;
        unlock_front(front);
    }
}

size_t
pw_fronts_idle(pw_buffer_pool *self, size_t class_index)
{
    size_t idle = 0;
    for (pw_front *front = self->fronts; front != NULL; front = front->next) {
        lock_front(front);
        idle += pw_list_length(front->shelves[class_index].idle);
        unlock_front(front);
    }
    return idle;
}

uint64_t
pw_fronts_hits(pw_buffer_pool *self)
{
    uint64_t hits = 0;
    for (pw_front *front = self->fronts; front != NULL; front = front->next) {
        hits += pw_load_relaxed(&front->hits);
    }
    return hits;
}

void
pw_fronts_begin(pw_buffer_pool *self)
{
    static uint64_t last_serial; /* of the process */
    self->serial = __atomic_add_fetch(&last_serial, 1, __ATOMIC_RELAXED);
}

void
pw_fronts_free(pw_buffer_pool *self)
{
    for (pw_front *front = self->fronts, *next; front != NULL; front = next) {
        next = front->next;
        pw_disown(&front->owned);
        pw_fork_lock_remove(&front->fork_lock);
        free(front);
    }
}

#endif
