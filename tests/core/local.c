/* local.c: the part of a pool that one thread owns, beside one list from oldest to newest.
 *
 * The list's last `private` are the private part. Whether an item is free changes at random, and
 * one allocation in four fails: nothing may have changed then. Compiled with the GIL's plain
 * accesses and with the atomic ones (-DPW_ATOMICS=1); no other thread is here. */
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

static size_t
capacity(void)
{
    return local.shared.ring == NULL ? 0 : local.shared.ring->cap;
}

static void
push(thing *added, bool may_share)
{
    size_t cap = capacity();
    bool must_grow = private == 2 && idle - private == cap;
    bool done =
        may_share ? pw_local_push_owner(&local, added) : pw_local_push_private_owner(&local, added);
    CHECK(done == (may_share ? !(must_grow && memory_is_short) : private < 2));
    CHECK(may_share || capacity() == cap);
    if (done) {
        order[idle++] = added;
        added->in_use = true;
        private += private < 2;
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
    CHECK(pw_queue_pop_owner(&local.shared) == expected);
    low = idle - private < low ? idle - private : low;
}

static void
steal(void)
{
    thing *expected = idle > private ? model_remove(0) : NULL;
    CHECK(pw_queue_steal(&local.shared) == expected);
}

static void
take_private(void)
{
    thing *expected = private > 0 ? model_remove(idle - private) : NULL;
    CHECK(pw_local_take_private(&local) == expected);
}

static void
check_all(void)
{
    size_t shared = idle - private;
    CHECK(pw_local_check(&local));
    CHECK(pw_local_idle(&local) == idle);
    CHECK(pw_local_private(&local) == private);
    for (size_t i = 0; i < shared; i++) {
        CHECK(local.shared.ring->slots[(local.shared.tail + i) & (capacity() - 1)] == order[i]);
    }
}

/* As a trim does. A thief's part in the low is what is left at the end. */
static void
end_period(void)
{
    size_t shared = idle - private;
    CHECK(pw_queue_end_period(&local.shared) == (low < shared ? low : shared));
    low = shared;
}

static void
run(void)
{
    memset(things, 0, sizeof(things));
    local = (pw_local){0};
    local.shared.head = local.shared.tail = at.seed % 2 ? 0 : SIZE_MAX - below(100); /* they wrap */
    idle = private = low = 0;
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
                push(added, below(4) != 0);
            }
        } else {
            switch (below(8)) {
            case 0:
                steal();
                break;
            case 1:
                take_private();
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
        if (below(200) == 0) {
            end_period();
        }
    }
    while (idle > private) {
        steal();
    }
    check_all();
    pw_queue_free(&local.shared);
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 20, run);
}
