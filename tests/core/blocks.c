/* blocks.c: blocks of a few classes, beside arrays of those out, idle and doomed.
 *
 * Every block is written from end to end with its owner's mark: two that overlap, or one given out
 * twice, show at once. A walk over the slabs checks the invariants of blocks.h; one mapping in
 * eight fails; what was mapped must be unmapped at the end. */
#include "check.h"

#include <sys/mman.h>

static bool memory_is_short;
static size_t mapped_bytes;

static void *
some_mmap(void *hint, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (memory_is_short) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *memory = mmap(hint, bytes, protection, flags, fd, offset);
    mapped_bytes += memory == MAP_FAILED ? 0 : bytes;
    return memory;
}

static int
some_munmap(void *memory, size_t bytes)
{
    mapped_bytes -= bytes;
    return munmap(memory, bytes);
}

#define mmap some_mmap
#define munmap some_munmap
#include "blocks.h"
#undef mmap
#undef munmap

enum { BLOCKS = 400, STEPS = 6000, FALLBACKS = 300 };

typedef struct {
    pw_block *block;
    uint64_t round;
    unsigned char mark;
} holding;

typedef struct {
    holding of[BLOCKS];
    size_t count;
} holdings;

static pw_class cls;
static holdings out, idle, doomed; /* the newest last */
static size_t budget_bytes, high_water;

static void
add(holdings *to, holding what)
{
    CHECK(to->count < BLOCKS);
    to->of[to->count++] = what;
}

static holding
take_at(holdings *from, size_t i)
{
    holding taken = from->of[i];
    memmove(&from->of[i], &from->of[i + 1], (from->count - i - 1) * sizeof(holding));
    from->count--;
    return taken;
}

static bool
is_all(const char *start, size_t bytes, unsigned char mark)
{
    return bytes == 0 ||
           ((unsigned char)start[0] == mark && memcmp(start, start + 1, bytes - 1) == 0);
}

static void
give_out(holding got)
{
    got.mark = (unsigned char)(1 + below(255));
    memset(got.block->start, got.mark, got.block->capacity);
    add(&out, got);
}

static void
get(void)
{
    if (out.count + idle.count + doomed.count == BLOCKS) {
        return;
    }
    holding got = {0};
    if (cls.idle != NULL && below(2)) {
        got = take_at(&idle, idle.count - 1);
        CHECK(pw_class_pop_owner(&cls) == got.block);
    } else if ((got.block = pw_class_pop_any_owner(&cls)) != NULL) {
        holdings *from = idle.count > 0 ? &idle : &doomed;
        size_t i = from->count - 1;
        while (from == &doomed && from->of[i].block != got.block) {
            CHECK(i-- > 0); /* any doomed one will do */
        }
        CHECK(from->of[i].block == got.block);
        got = take_at(from, i);
    } else {
        CHECK(idle.count == 0 && doomed.count == 0);
        bool needs_a_slab = cls.open == NULL;
        got.block = pw_class_warm_one(&cls, budget_bytes);
        CHECK((got.block == NULL) == (needs_a_slab && memory_is_short));
        if (got.block == NULL) {
            return;
        }
        CHECK(got.block->cls == &cls && got.block->capacity == cls.capacity);
        size_t granule = cls.capacity < PW_PAGE_BYTES ? PW_LINE_BYTES : PW_PAGE_BYTES;
        CHECK((uintptr_t)got.block->start % granule == 0);
        if (cls.capacity >= PW_PAGE_BYTES) { /* fresh, or given back: the kernel zeroes both */
            CHECK(is_all(got.block->start, got.block->capacity, 0));
        }
        give_out(got);
        return;
    }
    CHECK(is_all(got.block->start, got.block->capacity, got.mark)); /* nobody wrote to it */
    give_out(got);
}

static void
put(void)
{
    if (out.count > 0) {
        holding back = take_at(&out, below(out.count));
        CHECK(is_all(back.block->start, back.block->capacity, back.mark));
        back.round = cls.round;
        pw_class_push_owner(&cls, back.block);
        add(&idle, back);
    }
}

/* The older half of those that were idle all through the round, the odd one too. */
static void
trim(void)
{
    size_t rested = 0;
    while (rested < idle.count && idle.of[rested].round != cls.round) {
        rested++;
    }
    pw_class_trim(&cls);
    for (size_t i = 0; i < rested - rested / 2; i++) {
        add(&doomed, take_at(&idle, 0));
    }
}

static void
doom_all(void)
{
    pw_class_doom_all(&cls);
    while (idle.count > 0) {
        add(&doomed, take_at(&idle, 0));
    }
}

static void
cool_one(void)
{
    pw_block *block = cls.doomed;
    CHECK((block != NULL) == (doomed.count > 0));
    if (block == NULL) {
        return;
    }
    size_t i = 0;
    while (doomed.of[i].block != block) {
        CHECK(++i < doomed.count);
    }
    CHECK(is_all(block->start, block->capacity, doomed.of[i].mark));
    take_at(&doomed, i);
    cls.doomed = block->next;
    pw_block_cool(block);
}

static void
check_all(void)
{
    size_t warm = out.count + idle.count + doomed.count;
    high_water = warm > high_water ? warm : high_water;
    CHECK(cls.warm_count == warm && cls.high_water == high_water);
    CHECK(pw_list_length(cls.doomed) == doomed.count);
    size_t i = idle.count;
    for (pw_block *block = cls.idle; block != NULL; block = block->next) {
        CHECK(i-- > 0 && idle.of[i].block == block && idle.of[i].round == block->round);
    }
    CHECK(i == 0);
    pw_slab *prev = NULL;
    for (pw_slab *slab = cls.open; slab != NULL; prev = slab, slab = slab->next) {
        CHECK(slab->open && slab->prev == prev && slab->cls == &cls);
        CHECK(slab->warm > 0 && slab->warm == slab->carved - pw_list_length(slab->cold));
        CHECK(slab->cold != NULL || slab->carved < slab->room);
        for (pw_block *block = slab->cold; block != NULL; block = block->next) {
            CHECK(block->slab == slab);
        }
    }
    holdings *all[] = {&out, &idle, &doomed};
    for (size_t k = 0; k < 3; k++) {
        for (i = 0; i < all[k]->count; i++) {
            const pw_slab *slab = all[k]->of[i].block->slab;
            const char *start = all[k]->of[i].block->start;
            CHECK(slab->carved <= slab->room && slab->warm > 0);
            CHECK(slab->open == (slab->cold != NULL || slab->carved < slab->room));
            CHECK(start >= slab->first &&
                  start + cls.capacity <= (const char *)slab + slab->map_bytes);
        }
    }
}

static void
one_class(size_t capacity)
{
    cls = (pw_class){.capacity = capacity};
    out.count = idle.count = doomed.count = high_water = 0;
    budget_bytes = capacity * (1 + below(40));
    size_t room = pw_slab_room(capacity, budget_bytes);
    CHECK(room >= 1 && room * capacity <= budget_bytes);
    CHECK(pw_slab_room(capacity, capacity - 1) == 1); /* one block is always possible */
    size_t steps = capacity > 20000 ? STEPS / 10 : STEPS, fill = 5;
    for (size_t i = 0; i < steps; i++, at.step++) {
        if (i % 100 == 0) {
            fill = 1 + below(9);
        }
        memory_is_short = below(8) == 0;
        if (below(20) == 0) {
            below(10) == 0 ? doom_all() : trim();
        } else if (below(10) < fill) {
            get();
        } else {
            below(3) == 0 ? cool_one() : put();
        }
        check_all();
    }
    while (out.count > 0) {
        put();
    }
    doom_all();
    while (doomed.count > 0) {
        cool_one();
        check_all();
    }
    CHECK(cls.warm_count == 0 && cls.open == NULL && mapped_bytes == 0);
}

static void
fallbacks(void)
{
    for (size_t i = 0; i < FALLBACKS; i++, at.step++) {
        size_t bytes = below(4) == 0 ? i % 3 : below(3 * PW_PAGE_BYTES);
        memory_is_short = below(4) == 0;
        pw_block *block = pw_fallback_new(bytes);
        CHECK((block == NULL) == (memory_is_short && bytes > PW_PAGE_BYTES - PW_LINE_BYTES));
        if (block != NULL) {
            size_t granule = bytes < PW_PAGE_BYTES ? PW_LINE_BYTES : PW_PAGE_BYTES;
            CHECK(block->capacity >= bytes && block->capacity > 0);
            CHECK(block->capacity % granule == 0 && (uintptr_t)block->start % granule == 0);
            CHECK(block->cls == NULL && block->slab == NULL);
            memset(block->start, 1, block->capacity);
            pw_fallback_free(block);
        }
    }
    CHECK(mapped_bytes == 0);
    CHECK(pw_fallback_new(SIZE_MAX) == NULL);
    CHECK(pw_fallback_new(SIZE_MAX - PW_PAGE_BYTES) == NULL);
    cls = (pw_class){.capacity = SIZE_MAX / 2};
    CHECK(pw_slab_new(&cls, 4) == NULL && cls.open == NULL);
}

static void
huge_pages(void)
{
    cls = (pw_class){.capacity = 3 * PW_HUGE_BYTES / 2, .huge = true};
    memory_is_short = false;
    pw_block *first = pw_class_warm_one(&cls, SIZE_MAX);
    pw_block *second = pw_class_warm_one(&cls, SIZE_MAX);
    const pw_slab *slab = first->slab;
    CHECK((uintptr_t)slab->first % PW_HUGE_BYTES == 0 && first->start == slab->first);
    CHECK(slab->first + slab->room * cls.capacity <= (const char *)slab + slab->map_bytes);
    CHECK(second->start == first->start + cls.capacity);
    memset(first->start, 1, cls.capacity);
    pw_block_cool(first);
    pw_block_cool(second);
    CHECK(mapped_bytes == 0);
}

static void
run(void)
{
    static const size_t sizes[] = {64, 1000, 4096, 20000, 100000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        one_class(pw_class_capacity(pw_class_index(sizes[i] - 1)));
    }
    fallbacks();
    huge_pages();
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 3, run);
}
