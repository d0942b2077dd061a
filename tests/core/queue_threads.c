/* queue_threads.c: one owner and many thieves at one queue: each value is seen exactly once.
 *
 * The owner pushes all values in order, and pops some as it goes; the thieves take the rest. The
 * indices start just below their end, so that they wrap, and the ring grows under the thieves.
 * ThreadSanitizer watches. With -DPLANT_RACE a thief moves the tail without the exchange. */
#define PW_ATOMICS 1
#include "check.h"

#include <pthread.h>

#include "queue.h"

#ifndef VALUES
#define VALUES 200000
#endif

enum { THIEVES = 3 };

static pw_queue queue;
static unsigned char seen[VALUES];
static int done;

static void
see(void *item)
{
    uintptr_t value = (uintptr_t)item - 1;
    CHECK(value < VALUES);
    CHECK(__atomic_fetch_add(&seen[value], 1, __ATOMIC_RELAXED) == 0);
}

static void *
take(void)
{
#ifdef PLANT_RACE
    size_t tail = queue.tail;
    if (tail == pw_load_acquire(&queue.head)) {
        return NULL;
    }
    void *item = queue.ring->slots[tail & (queue.ring->cap - 1)];
    queue.tail = tail + 1;
    return item;
#else
    return pw_queue_steal(&queue);
#endif
}

static void *
thief(void *arg)
{
    uintptr_t last = 0, *stolen = arg;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE) || pw_queue_length(&queue) > 0) {
        void *item = take();
        if (item != NULL) {
            see(item);
            CHECK((uintptr_t)item > last); /* the oldest first */
            last = (uintptr_t)item;
            ++*stolen;
        }
    }
    return NULL;
}

static void
run(void)
{
    memset(seen, 0, sizeof(seen));
    queue = (pw_queue){.head = SIZE_MAX - 50, .tail = SIZE_MAX - 50};
    done = 0;
    pthread_t threads[THIEVES];
    uintptr_t stolen[THIEVES] = {0};
    for (int i = 0; i < THIEVES; i++) {
        pthread_create(&threads[i], NULL, thief, &stolen[i]);
    }
    size_t popped = 0;
    for (uintptr_t value = 1; value <= VALUES; value++) {
        CHECK(pw_queue_push_owner(&queue, (void *)value));
        while (below(3) == 0) {
            void *item = pw_queue_pop_owner(&queue);
            if (item != NULL) {
                see(item);
                popped++;
            }
        }
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    size_t all = popped;
    for (int i = 0; i < THIEVES; i++) {
        pthread_join(threads[i], NULL);
        all += stolen[i];
    }
    CHECK(all == VALUES);
    CHECK(pw_queue_check(&queue));
    pw_queue_free(&queue);
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 3, run);
}
