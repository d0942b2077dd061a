/* allocator_hooks.c: the hooks in CPython's `obj`, `mem` and `raw` domains (PEP 445).
 *
 * They keep their context pointer and are never taken out: a thread that read half of the
 * allocator's five words while we changed them must still call something that works. */
#include "sampler_state.h"

#include "residency.h"

typedef struct {
    PyMemAllocatorEx original;
    PyMemAllocatorDomain domain;
} hooked_domain;

static hooked_domain object_domain = {.domain = PYMEM_DOMAIN_OBJ};
static hooked_domain memory_domain = {.domain = PYMEM_DOMAIN_MEM};
static hooked_domain raw_domain = {.domain = PYMEM_DOMAIN_RAW};
/* Larger requests to the object and memory domains, and those for nothing, reach the raw one and
 * are sampled there: over 512 where the small-object allocator is in use, or less if something
 * between (CPython's debug hooks) adds to them; none where all three are malloc. */
static size_t small_bytes = SIZE_MAX;

static void *
moved_block(hooked_domain *hooked, void *ctx, void *block, size_t bytes, pw_sample sample,
            uint32_t thinnings)
{
    int64_t touched =
        (int64_t)pw_resident_pages(sample.address, sample.bytes) - sample.resident_pages;
    int64_t left = pw_self.left;
    pw_self.left = INT64_MAX; /* the domain below is not to sample the same block anew */
    void *moved = hooked->original.realloc(ctx, block, bytes);
    pw_self.left = left;
    pw_sample_moved(sample, moved, bytes, touched, thinnings);
    return moved;
}

/* A sampled block keeps its birth through realloc. */
static inline void *
hook_realloc(hooked_domain *hooked, int domain, void *ctx, void *block, size_t bytes, size_t limit)
{
    uint64_t volume = pw_self.volume;
    pw_sample sample;
    uint32_t thinnings;
    if (block != NULL && PW_UNLIKELY(pw_filter_maybe(block)) &&
        pw_sample_moving(block, &sample, &thinnings)) {
        void *moved = moved_block(hooked, ctx, block, bytes, sample, thinnings);
        if (moved != NULL && bytes - 1 < limit && pw_self.volume == volume) {
            pw_self.volume += bytes;
        }
        return moved;
    }
    pw_self.resized = block != NULL; /* for the domain below, too */
    void *moved = hooked->original.realloc(ctx, block, bytes);
    /* A block that stays with the domain below has been counted there. */
    if (PW_LIKELY(bytes - 1 < limit && pw_self.volume == volume)) {
        pw_self.resized = block != NULL;
        pw_allocated(moved, bytes, domain);
    }
    pw_self.resized = 0;
    return moved;
}

#define DEFINE_HOOKS(prefix, hooked, sampled_domain, limit)                                        \
    static void *prefix##_malloc(void *ctx, size_t bytes)                                          \
    {                                                                                              \
        void *block = hooked.original.malloc(ctx, bytes);                                          \
        if (PW_LIKELY(bytes - 1 < (limit))) {                                                      \
            pw_allocated(block, bytes, sampled_domain);                                            \
        }                                                                                          \
        return block;                                                                              \
    }                                                                                              \
    static void *prefix##_calloc(void *ctx, size_t count, size_t bytes)                            \
    {                                                                                              \
        void *block = hooked.original.calloc(ctx, count, bytes);                                   \
        pw_self.zeroed = block;                                                                    \
        if (PW_LIKELY(count * bytes - 1 < (limit))) { /* CPython has checked the product */        \
            pw_allocated(block, count * bytes, sampled_domain);                                    \
        }                                                                                          \
        return block;                                                                              \
    }                                                                                              \
    static void *prefix##_realloc(void *ctx, void *block, size_t bytes)                            \
    {                                                                                              \
        return hook_realloc(&hooked, sampled_domain, ctx, block, bytes, limit);                    \
    }                                                                                              \
    static void prefix##_free(void *ctx, void *block)                                              \
    {                                                                                              \
        pw_freeing(block);                                                                         \
        hooked.original.free(ctx, block);                                                          \
    }                                                                                              \
    static const PyMemAllocatorEx prefix##_hooks = {NULL, prefix##_malloc, prefix##_calloc,        \
                                                    prefix##_realloc, prefix##_free};

DEFINE_HOOKS(object, object_domain, PW_DOMAIN_OBJECT, small_bytes)
DEFINE_HOOKS(memory, memory_domain, PW_DOMAIN_MEMORY, small_bytes)
DEFINE_HOOKS(raw, raw_domain, PW_DOMAIN_RAW, SIZE_MAX)

/* While objects are counted, the object domain has one hook more, above the others. */
static hooked_domain object_blocks = {.domain = PYMEM_DOMAIN_OBJ};
static bool keep_object_blocks;

static void *
blocks_malloc(void *ctx, size_t bytes)
{
    return pw_self.fresh = object_blocks.original.malloc(ctx, bytes);
}

static void *
blocks_calloc(void *ctx, size_t count, size_t bytes)
{
    return pw_self.fresh = object_blocks.original.calloc(ctx, count, bytes);
}

static void *
blocks_realloc(void *ctx, void *block, size_t bytes)
{
    return object_blocks.original.realloc(ctx, block, bytes);
}

static void
blocks_free(void *ctx, void *block)
{
    object_blocks.original.free(ctx, block);
}

static const PyMemAllocatorEx blocks_hooks = {NULL, blocks_malloc, blocks_calloc, blocks_realloc,
                                              blocks_free};

static void
hook(hooked_domain *hooked, const PyMemAllocatorEx *hooks)
{
    PyMemAllocatorEx current;
    PyMem_GetAllocator(hooked->domain, &current);
    if (current.malloc == hooks->malloc) {
        return;
    }
    hooked->original = current;
    PyMemAllocatorEx ours = *hooks;
    ours.ctx = current.ctx; /* any mix of old and new words must work */
    PyMem_SetAllocator(hooked->domain, &ours);
}

static bool
reaches_raw_domain(size_t bytes)
{
    pw_thread before = pw_self;
    pw_self.left = INT64_MAX; /* not to be sampled */
    void *block = object_domain.original.malloc(object_domain.original.ctx, bytes);
    bool reached = pw_self.volume != before.volume;
    object_domain.original.free(object_domain.original.ctx, block);
    pw_self = before;
    return reached;
}

static size_t
most_small_bytes(void)
{
    size_t small = 1, large = 1024;
    if (!reaches_raw_domain(large)) {
        return SIZE_MAX;
    }
    while (large - small > 1) {
        size_t middle = (small + large) / 2;
        *(reaches_raw_domain(middle) ? &large : &small) = middle;
    }
    return small;
}

void
pw_hook_allocators(void)
{
    hook(&raw_domain, &raw_hooks);
    hook(&object_domain, &object_hooks);
    hook(&memory_domain, &memory_hooks);
    small_bytes = most_small_bytes();
    if (keep_object_blocks) {
        hook(&object_blocks, &blocks_hooks);
    }
}

/* tracemalloc started before us and stopped after puts its saved allocator back, and our hook is
 * gone. One allocation of our own that the hook sees, or not, tells. */
bool
pw_allocators_hooked(void)
{
    int64_t left = pw_self.left;
    pw_self.probing = 1;
    pw_self.left = -1;
    void *block = PyObject_Malloc(16);
    bool there = pw_self.probing == 0;
    pw_self.probing = 0;
    PyObject_Free(block);
    pw_self.left = left;
    return there;
}

/* A program whose hooks are gone may reach us by no allocation at all, so collections and the end
 * of the recording look too. */
void
pw_check_hooks(uint64_t now_ns)
{
    if (!pw_allocators_hooked()) {
        pw_sampler_lock();
        pw_sampler->totals.hook_removals++;
        pw_lose_samples(now_ns);
        pw_sampler_unlock();
        pw_hook_allocators();
    }
}

void
pw_hook_object_blocks(void)
{
    keep_object_blocks = true;
    hook(&object_blocks, &blocks_hooks);
}
