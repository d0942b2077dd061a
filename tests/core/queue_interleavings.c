/* queue_interleavings.c: the queue through every interleaving of an owner and a thief.
 *
 * Each program is four operations of both together. Before each access to what both touch, a
 * thread gives way, and the scheduler walks all schedules, depth first, with the trace replayed.
 * (What the owner reads and alone writes is no choice, and memory is sequentially consistent here:
 * the orders of queue_threads.c are ThreadSanitizer's matter.) In each schedule every value is
 * seen exactly once, by the owner in the end if by nobody before.
 * With -DPLANT_RACE pop looks at the tail before it has moved the head, and must be caught. */
#define PW_ATOMICS 1
#define PW_STEPPED 1
#include "check.h"

#include <setjmp.h>
#include <ucontext.h>

static void step(const void *at, bool writes);
static int current = -1; /* which thread runs; the scheduler itself: nothing to choose */

#define PW_OWN_LINES
#define pw_load_relaxed(at) (step(at, false), *(at))
#define pw_load_acquire(at) (step(at, false), *(at))
#define pw_store_relaxed(at, value) ((void)(step(at, true), *(at) = (value)))
#define pw_store_release(at, value) ((void)(step(at, true), *(at) = (value)))
#ifdef PLANT_RACE
static size_t *late_at, late_value;
#define pw_store_ordered(at, value) ((void)(late_at = (at), late_value = (value)))
#define pw_load_ordered(at)                                                                        \
    __extension__({                                                                                \
        step(at, false);                                                                           \
        size_t loaded = *(at);                                                                     \
        if (current != 1 && late_at != NULL) {                                                     \
            step(late_at, true);                                                                   \
            *late_at = late_value;                                                                 \
            late_at = NULL;                                                                        \
        }                                                                                          \
        loaded;                                                                                    \
    })
#else
#define pw_store_ordered(at, value) ((void)(step(at, true), *(at) = (value)))
#define pw_load_ordered(at) (step(at, false), *(at))
#endif
#define pw_replace(at, was, value)                                                                 \
    (step(at, true), *(at) == (was) ? (*(at) = (value), true) : false)

#include "queue.h"

enum { STACK_BYTES = 64 << 10, STEPS_MAX = 200, VALUES_MAX = 40, OPERATIONS_MAX = 4 };

typedef struct {
    const char *owner, *thief; /* of p(ush), o (pop), s(teal) */
    size_t before;             /* values that lie there at first */
    size_t start;              /* first index */
} program;

static const program programs[] = {
    {"po", "ss", 0, 0},
    {"oo", "ss", 1, 0},
    {"oo", "ss", 2, 0},
    {"ooo", "s", 1, 0},
    {"opo", "s", 1, 0},
    {"pop", "s", 0, 0},
    {"ppo", "s", 0, 0},
    {"po", "ss", 1, 0},
    {"op", "ss", 1, 0},
    {"o", "sss", 1, 0},
    {"o", "sss", 2, 0},
    {"p", "sss", 1, 0},
    {"po", "ss", 16, 0},
    /* the ring grows */ {"pp", "ss", 15, 0},
    {"po", "ss", 1, SIZE_MAX},
    {"oo", "ss", 2, SIZE_MAX}, /* the indices wrap */
    {"pp", "ss", 15, SIZE_MAX - 3},
};

static pw_queue queue;
static unsigned char seen[VALUES_MAX];
static uintptr_t next_value;

static jmp_buf scheduler, threads[2];
static ucontext_t contexts[2], origin;
static char stacks[2][STACK_BYTES] __attribute__((aligned(16)));
static bool running[2];
static const char *work[2];

static void
step(const void *at, bool writes)
{
    bool thiefs_too = writes ? at != (const void *)&queue.low : at == (const void *)&queue.tail;
    if (current < 0 || (current == 0 && !thiefs_too)) {
        return;
    }
    if (_setjmp(threads[current]) == 0) {
        _longjmp(scheduler, 1);
    }
}

static void
see(void *item)
{
    if (item != NULL) {
        uintptr_t value = (uintptr_t)item - 1;
        CHECK(value < VALUES_MAX);
        CHECK(seen[value] == 0);
        seen[value] = 1;
    }
}

static void
run_thread(void)
{
    for (const char *operation = work[current]; *operation != '\0'; operation++) {
        if (*operation == 'p') {
            CHECK(pw_queue_push_owner(&queue, (void *)(++next_value)));
        } else {
            see(*operation == 'o' ? pw_queue_pop_owner(&queue) : pw_queue_steal(&queue));
        }
    }
    running[current] = false;
    _longjmp(scheduler, 1);
}

static void
go_on(int thread, bool first)
{
    current = thread;
    if (_setjmp(scheduler) == 0) {
        if (first) {
            setcontext(&contexts[thread]);
        }
        _longjmp(threads[thread], 1);
    }
    current = -1;
}

static unsigned char chosen[STEPS_MAX], choices[STEPS_MAX];
static size_t depth;

/* One schedule: as chosen so far, then always the owner first. */
static void
run_schedule(const program *one, size_t prefix)
{
    memset(seen, 0, sizeof(seen));
    queue = (pw_queue){.head = one->start, .tail = one->start};
    next_value = 0;
    for (size_t i = 0; i < one->before; i++) {
        CHECK(pw_queue_push_owner(&queue, (void *)(++next_value)));
    }
    work[0] = one->owner;
    work[1] = one->thief;
    bool started[2] = {false, false};
    for (int thread = 0; thread < 2; thread++) {
        running[thread] = true;
        getcontext(&contexts[thread]);
        contexts[thread].uc_stack.ss_sp = stacks[thread];
        contexts[thread].uc_stack.ss_size = STACK_BYTES;
        contexts[thread].uc_link = &origin;
        makecontext(&contexts[thread], run_thread, 0);
    }
    for (depth = 0; running[0] || running[1]; depth++) {
        CHECK(depth < STEPS_MAX);
        choices[depth] = running[0] && running[1] ? 2 : 1;
        if (depth >= prefix) {
            chosen[depth] = 0;
        }
        int thread = choices[depth] == 2 ? chosen[depth] : running[0] ? 0 : 1;
        bool first = !started[thread];
        started[thread] = true;
        go_on(thread, first);
    }
    void *item;
    while ((item = pw_queue_pop_owner(&queue)) != NULL) {
        see(item);
    }
    for (uintptr_t value = 0; value < next_value; value++) {
        CHECK(seen[value] == 1);
    }
    CHECK(pw_queue_check(&queue));
    pw_queue_free(&queue);
}

int
main(void)
{
    unsigned long long all = 0;
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        size_t prefix = 0;
        at.seed = i;
        do {
            run_schedule(&programs[i], prefix);
            all++;
            at.step++;
            for (prefix = depth; prefix > 0; prefix--) {
                if (chosen[prefix - 1] + 1 < choices[prefix - 1]) {
                    chosen[prefix - 1]++;
                    break;
                }
            }
        } while (prefix > 0);
    }
    printf("%llu schedules\n", all);
    return 0;
}
