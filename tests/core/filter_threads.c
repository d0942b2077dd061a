/* filter_threads.c: the filter is read without the lock while another thread inserts and removes.
 *
 * As in a program: a thread is handed a block by the thread that made it, and frees it. The filter
 * must then say "maybe", whatever happens to other blocks meanwhile; it must be right to ask it
 * without the lock (ThreadSanitizer watches), and every sample must be found once.
 *
 * With -DPLANT_RACE the table's count is read without the lock too: ThreadSanitizer must object. */
#include "check.h"

#include <pthread.h>
#include <sched.h>

#include "sample_table.h"

_Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

enum { READERS = 3, SAMPLES = 20000, CHURN = 64 };

static pw_table table;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uintptr_t handed[READERS]; /* 0: nothing; 1: no more */
static const uintptr_t arena = UINT64_C(0x7f5512340000);

static uintptr_t
churn_at(size_t i)
{
    return arena + 16 * (1000000 + i);
}

static void
insert(uintptr_t address)
{
    pthread_mutex_lock(&lock);
    pw_table_insert(&table, (pw_sample){.address = address, .bytes = 64, .id = 1});
    pthread_mutex_unlock(&lock);
}

/* What the sampler does at a free: the filter first, and the lock only if it says so. */
static bool
take_out(uintptr_t address)
{
#ifdef PLANT_RACE
    if (table.used == 0) {
        return false;
    }
#endif
    if (!pw_filter_maybe((void *)address)) {
        return false;
    }
    pthread_mutex_lock(&lock);
    pw_sample *sample = pw_table_find(&table, address);
    if (sample != NULL) {
        pw_table_remove(&table, sample);
    }
    pthread_mutex_unlock(&lock);
    return sample != NULL;
}

static void *
free_what_is_handed(void *arg)
{
    _Atomic uintptr_t *slot = arg;
    uint64_t found = 0, random = 0;
    for (;;) {
        uintptr_t address = atomic_load_explicit(slot, memory_order_acquire);
        if (address == 1) {
            return (void *)(uintptr_t)found;
        }
        if (address == 0) { /* meanwhile: blocks never sampled, whose cells others come and go in */
            random = random * 6364136223846793005u + 1;
            if (take_out((UINT64_C(1) << 36) + churn_at((size_t)(random >> 33) % CHURN))) {
                return NULL; /* found what nobody put there */
            }
            sched_yield();
            continue;
        }
        found += take_out(address);
        atomic_store_explicit(slot, 0, memory_order_release);
    }
}

static void
run(void)
{
    pthread_t threads[READERS];
    uint64_t handed_count[READERS] = {0};
    CHECK(pw_table_init(&table) == 0);
    for (size_t i = 0; i < READERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, free_what_is_handed, (void *)&handed[i]) == 0);
    }
    for (at.step = 0; at.step < SAMPLES; at.step++) {
        size_t i = below(READERS);
        uintptr_t own = churn_at(below(CHURN));
        insert(own); /* neighbours come and go beside the blocks that are handed over */
        if (atomic_load_explicit(&handed[i], memory_order_acquire) == 0) {
            uintptr_t address = arena + 16 * (uintptr_t)at.step;
            insert(address);
            atomic_store_explicit(&handed[i], address, memory_order_release);
            handed_count[i]++;
        }
        CHECK(take_out(own));
    }
    for (size_t i = 0; i < READERS; i++) {
        while (atomic_load_explicit(&handed[i], memory_order_acquire) != 0) {
            sched_yield();
        }
        atomic_store_explicit(&handed[i], 1, memory_order_release);
        void *found;
        CHECK(pthread_join(threads[i], &found) == 0);
        CHECK((uintptr_t)found == handed_count[i] && handed_count[i] > 0);
    }
    CHECK(table.used == 0 && pw_table_check(&table));
    for (size_t i = 0; i < 1u << PW_FILTER_BITS; i++) {
        CHECK(pw_filter[i] == 0);
    }
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 1, run);
}
