/* local.c: the part of a pool that one thread owns, beside one list from oldest to newest.
 *
 * The list's last `private` are the private part. Whether an item is free changes at random, and
 * one allocation in four fails: nothing may have changed then. */
#include "check.h"

static bool memory_is_short;

static void *
some_malloc(size_t bytes)
{
    return memory_is_short ? NULL : malloc(bytes);
}

#define malloc some_malloc
#include "local.h"
#undef malloc

enum { ITEMS = 200, STEPS = 20000 };

typedef struct {
    bool in_use, held;
} thing;

static thing things[ITEMS];
static pw_local local;
static thing *order[ITEMS]; /* the model: idle things, the oldest first */
static size_t idle, private, low;
static pw_held aside[PW_HELD_MAX];
static size_t aside_count;

/* Called with an item that has been taken out. */
static bool
is_free(void *item)
{
    CHECK(local.newest != item && local.second != item);
    return !((thing *)item)->held;
}

static thing *
some_thing(void)
{
    for (size_t tries = 0; tries < ITEMS; tries++) {
        thing *found = &things[below(ITEMS)];
        if (!found->in_use) {
            return found;
        }
    }
    return NULL;
}

static thing *
model_remove(size_t i)
{
    thing *removed = order[i];
    private -= i >= idle - private;
    memmove(&order[i], &order[i + 1], (idle - i - 1) * sizeof(order[0]));
    idle--;
    removed->in_use = false;
    return removed;
}

static void
model_insert(size_t i, thing *added)
{
    memmove(&order[i + 1], &order[i], (idle - i) * sizeof(order[0]));
    order[i] = added;
    added->in_use = true;
    idle++;
}

static void
push(thing *added, bool may_share)
{
    size_t cap = local.cap;
    bool must_grow = private == 2 && idle - private == cap;
    bool done =
        may_share ? pw_local_push_owner(&local, added) : pw_local_push_private_owner(&local, added);
    CHECK(done == (may_share ? !(must_grow && memory_is_short) : private < 2));
    CHECK(may_share || local.cap == cap);
    if (done) {
        model_insert(idle, added);
        private += private < 2;
    }
}

static void
push_oldest(thing *added)
{
    bool must_grow = idle - private == local.cap;
    bool done = pw_local_push_oldest_owner(&local, added);
    CHECK(done == !(must_grow && memory_is_short));
    if (done) {
        model_insert(0, added);
    }
}

static void
pop_private(void)
{
    thing *expected = NULL;
    for (size_t i = idle; i > idle - private && expected == NULL; i--) {
        expected = order[i - 1]->held ? NULL : order[i - 1];
    }
    CHECK(pw_local_pop_private_owner(&local, is_free) == expected);
    for (size_t i = idle; expected != NULL && i > 0; i--) {
        if (order[i - 1] == expected) {
            model_remove(i - 1);
            break;
        }
    }
}

static void
pop_shared(void)
{
    thing *expected = idle > private ? model_remove(idle - private - 1) : NULL;
    CHECK(pw_local_pop_shared_owner(&local) == expected);
}

static void
take_oldest(void)
{
    thing *expected = idle > 0 ? model_remove(0) : NULL;
    CHECK(pw_local_take_oldest_owner(&local) == expected);
}

static void
hold_or_unhold(void)
{
    thing *added = some_thing();
    if (aside_count > 0 && below(2)) {
        size_t i = below(aside_count);
        pw_held found = pw_local_unhold_owner(&local, i);
        CHECK(found.item == aside[i].item && found.pins == aside[i].pins);
        ((thing *)found.item)->in_use = false;
        aside[i] = aside[--aside_count];
    } else if (added != NULL) {
        unsigned pins = (unsigned)below(PW_PINS_MAX);
        bool done = pw_local_hold_owner(&local, added, pins);
        CHECK(done == (aside_count < PW_HELD_MAX));
        if (done) {
            aside[aside_count++] = (pw_held){added, pins};
            added->in_use = true;
        }
    }
}

static void
check_all(void)
{
    size_t shared = idle - private;
    low = shared < low ? shared : low;
    CHECK(pw_local_check(&local));
    CHECK(pw_local_idle(&local) == idle);
    CHECK(pw_local_private(&local) == private);
    CHECK(local.shared_low == low);
    CHECK(local.held_count == aside_count);
    for (size_t i = 0; i < shared; i++) {
        CHECK(local.ring[(local.tail + i) & (local.cap - 1)] == order[i]);
    }
}

static void
run(void)
{
    memset(things, 0, sizeof(things));
    local = (pw_local){0};
    local.head = local.tail = at.seed % 2 ? 0 : SIZE_MAX - below(100); /* they wrap */
    idle = private = low = aside_count = 0;
    size_t fill = 0; /* of 10: how likely something is put, not taken */
    for (at.step = 0; at.step < STEPS; at.step++) {
        if (at.step % 500 == 0) {
            fill = 2 + below(7);
        }
        memory_is_short = below(4) == 0;
        things[below(ITEMS)].held = below(4) == 0;
        thing *added = some_thing();
        if (below(10) < fill) {
            if (added != NULL) {
                below(8) == 0 ? push_oldest(added) : push(added, below(4) != 0);
            }
        } else {
            switch (below(8)) {
            case 0:
                take_oldest();
                break;
            case 1:
                hold_or_unhold();
                break;
            case 2:
            case 3:
                pop_shared();
                break;
            default:
                pop_private();
            }
        }
        check_all();
        if (below(200) == 0) { /* as a trim does */
            local.shared_low = low = pw_local_shared(&local);
        }
    }
    while (idle > 0) {
        take_oldest();
    }
    check_all();
    free(local.ring);
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 20, run);
}
