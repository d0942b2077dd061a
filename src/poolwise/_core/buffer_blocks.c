/* buffer_blocks.c: where a block comes from when none is idle, and what a careful return does. */
#include "buffer.h"

#include "poison.h"

enum { SAMPLED_MAX_BYTES = 2048, SAMPLE_EVERY = 128, SAMPLE_TRIES = 8 };

static void
cool_block(pw_buffer_pool *self, pw_block *block)
{
    self->warm_bytes -= block->capacity;
    pw_block_cool(block);
}

size_t
pw_cool_doomed(pw_buffer_pool *self, size_t bytes)
{
    size_t cooled = 0;
    for (size_t i = self->class_count; i-- > 0 && cooled < bytes;) {
        pw_class *cls = &self->classes[i];
        while (cls->doomed != NULL && cooled < bytes) {
            self->trimmed++;
            cooled += cls->capacity;
            pw_block *block = cls->doomed;
            cls->doomed = block->next;
            cool_block(self, block);
        }
    }
    return cooled;
}

/* Makes room for `bytes` more in the budget at the cost of other classes, largest first. */
static bool
make_room(pw_buffer_pool *self, size_t bytes)
{
    if (bytes > self->max_bytes) {
        return false;
    }
    size_t goal = self->max_bytes - bytes;
    if (self->warm_bytes > goal) {
        pw_fronts_empty(self);
    }
    for (size_t i = self->class_count; i-- > 0 && self->warm_bytes > goal;) {
        pw_block *block;
        while (self->warm_bytes > goal &&
               (block = pw_class_pop_any_owner(&self->classes[i])) != NULL) {
            self->trimmed++;
            cool_block(self, block);
        }
    }
    return self->warm_bytes <= goal;
}

/* Small fallbacks are malloc's: they come from strangers, and go to strangers. */
static bool
clears_outside(const pw_buffer_pool *self, const pw_block *block)
{
    return self->clear == PW_CLEAR_RELEASE && block->capacity < PW_PAGE_BYTES;
}

static pw_found
find_outside(pw_buffer_pool *self, size_t n, pw_block **block)
{
    *block = pw_fallback_new(n);
    if (*block == NULL) {
        return PW_NO_MEMORY;
    }
    (*block)->cls = &self->outside;
    if (clears_outside(self, *block)) {
        memset((*block)->start, 0, n);
    }
    self->misses++;
    *(n <= self->max_size ? &self->over_budget : &self->too_big) += 1;
    self->fallback_bytes += (*block)->capacity;
    if (++self->fallbacks_out > self->fallbacks_high_water) {
        self->fallbacks_high_water = self->fallbacks_out;
    }
    return PW_FOUND;
}

pw_found
pw_find_block(pw_buffer_pool *self, size_t n, pw_block **block, bool *hit)
{
    *hit = false;
    if (n > self->max_size) {
        return find_outside(self, n, block);
    }
    pw_class *cls = pw_class_for(self, n == 0 ? 0 : n - 1);
    *block = pw_class_pop_any_owner(cls);
    if (*block == NULL) {
        *block = pw_fronts_steal(self, cls);
    }
    if (*block != NULL) {
        self->hits++;
        *hit = true;
        return PW_FOUND;
    }
    if (!make_room(self, cls->capacity)) {
        return self->when_full == PW_FULL_FALLBACK ? find_outside(self, n, block) : PW_FULL;
    }
    *block = pw_class_warm_one(cls, self->max_bytes);
    if (*block == NULL) { /* the kernel has no more: give it all that is idle, once */
        make_room(self, self->max_bytes);
        *block = pw_class_warm_one(cls, self->max_bytes);
    }
    if (*block == NULL) {
        return PW_NO_MEMORY;
    }
    self->warm_bytes += (*block)->capacity;
    self->misses++;
    return PW_FOUND;
}

static void
count_use(pw_class *cls, size_t size, size_t used)
{
    cls->reported++;
    cls->reported_bytes += size;
    cls->used_bytes += used;
    cls->bad_streak = used < size - used ? cls->bad_streak + 1 : 0;
}

static unsigned char
pattern(const pw_buffer_pool *self)
{
    return self->clear == PW_CLEAR_RELEASE ? 0 : PW_POISON;
}

void
pw_return_carefully(pw_buffer_pool *self, pw_block *block, pw_buffer *buffer)
{
    size_t used = PW_ALL_USED;
    if (buffer != NULL) {
        used = buffer->used;
        buffer->used = PW_ALL_USED;
    }
    if (block->cls == &self->outside) {
        self->fallbacks_out--;
        self->fallback_bytes -= block->capacity;
        if (clears_outside(self, block) && buffer != NULL) {
            explicit_bzero(block->start, buffer->size);
        }
        pw_fallback_free(block);
        return;
    }
    pw_class *cls = block->slab->cls;
    if (used != PW_ALL_USED) {
        count_use(cls, buffer->size, used);
    }
    if (self->closed) {
        cool_block(self, block);
        return;
    }
    /* One that was poisoned and handed out unseen stops being sampled: the cost stays bounded. */
    block->sampled = block->sampled && !block->poisoned;
    block->poisoned = block->sampled || self->checks == PW_CHECKS_STRICT;
    block->cls = block->sampled ? &self->special : cls;
    if (block->poisoned) {
        memset(block->start, pattern(self), block->capacity);
    } else if (self->clear == PW_CLEAR_RELEASE && buffer != NULL) {
        memset(block->start, 0, buffer->size);
    }
    if (block->sampled) { /* the newest goes first: one of the next hand-outs will be this */
        self->check_at = self->hits;
        self->tries = SAMPLE_TRIES;
    }
    pw_class_push_owner(cls, block);
    pw_front_make_room(self, cls);
    if (self->waiters.first != NULL) {
        pw_waiters_wake_all(&self->waiters);
        pw_set_careful(self);
    }
}

/* In 64 to 191 hits, in no step with any loop of the program. */
static uint64_t
next_check(const pw_buffer_pool *self)
{
    uint64_t mixed = self->hits * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    return self->hits + SAMPLE_EVERY / 2 + mixed % SAMPLE_EVERY;
}

size_t
pw_inspect_block(pw_buffer_pool *self, pw_block *block)
{
    size_t changed = block->capacity;
    bool sampling = self->checks == PW_CHECKS_SAMPLE && self->hits >= self->check_at;
    if (block->poisoned) {
        changed = pw_first_changed(block->start, block->capacity, pattern(self));
        self->corrupted += changed < block->capacity;
        block->poisoned = block->sampled = false;
        block->cls = block->slab->cls;
        self->tries = 0;
    } else if (sampling && self->tries > 0) {
        self->tries--; /* a poisoned one is waited for */
        return changed;
    } else if (sampling && block->slab != NULL && block->capacity <= SAMPLED_MAX_BYTES) {
        block->sampled = true;
        block->cls = &self->special;
    }
    if (sampling) {
        self->check_at = next_check(self);
    }
    return changed;
}

void
pw_set_careful(pw_buffer_pool *self)
{
    bool careful = self->closed || self->clear == PW_CLEAR_RELEASE ||
                   self->checks == PW_CHECKS_STRICT || self->waiters.first != NULL;
    for (size_t i = 0; i < self->class_count; i++) {
        pw_store_relaxed(&self->classes[i].careful, careful);
    }
}
