/* owners_threads.c: threads that come and go own locals; what the dead leave is found.
 *
 * Each thread makes a local, puts its values there and ends; the main thread meanwhile steals,
 * and takes the private parts of locals without an owner. In the end each value was seen exactly
 * once, also those of the threads that a fork left behind. ThreadSanitizer watches. */
#define PW_ATOMICS 1
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

#include "owners.c"
#include "local.h"

enum { THREADS = 60, AT_ONCE = 4, VALUES = 40 };

static pw_local locals[THREADS];
static unsigned char seen[THREADS * VALUES];

static void
see(void *item)
{
    uintptr_t value = (uintptr_t)item - 1;
    CHECK(value < THREADS * VALUES);
    CHECK(__atomic_fetch_add(&seen[value], 1, __ATOMIC_RELAXED) == 0);
}

static bool
is_free(void *item)
{
    (void)item;
    return true;
}

static void *
work(void *arg)
{
    pw_local *local = arg;
    uintptr_t first = (uintptr_t)(local - locals) * VALUES;
    pw_give_to(&local->owned, pw_owner_current());
    for (uintptr_t value = first; value < first + VALUES; value++) {
        CHECK(pw_local_push_owner(local, (void *)(value + 1)));
        if (value % 4 == 0) {
            void *item = pw_local_pop_private_owner(local, is_free);
            if (item != NULL) {
                see(item);
            }
        }
    }
    return NULL;
}

static size_t
look(size_t started)
{
    size_t found = 0;
    for (size_t i = 0; i < started; i++) {
        void *item;
        while ((item = pw_queue_steal(&locals[i].shared)) != NULL) {
            see(item);
            found++;
        }
    }
    return found;
}

static void
take_what_the_dead_left(void)
{
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pw_owner_of(&locals[i].owned) == NULL);
        while (pw_local_private(&locals[i]) > 0) {
            see(pw_local_take_private(&locals[i]));
        }
    }
}

static void
fork_leaves_only_the_forker(void)
{
    static pw_local mine;
    pw_give_to(&mine.owned, pw_owner_current());
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        bool right = pw_owner_of(&mine.owned) == pw_owner_current();
        for (size_t i = 0; i < THREADS; i++) {
            right = right && pw_owner_of(&locals[i].owned) == NULL;
        }
        _exit(right ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    pw_disown(&mine.owned);
}

static void
run(void)
{
    memset(seen, 0, sizeof(seen));
    memset(locals, 0, sizeof(locals));
    uint64_t deaths = pw_load_acquire(&pw_owner_deaths);
    for (size_t i = 0; i < THREADS; i += AT_ONCE) {
        pthread_t threads[AT_ONCE];
        for (size_t k = 0; k < AT_ONCE; k++) {
            CHECK(pthread_create(&threads[k], NULL, work, &locals[i + k]) == 0);
        }
        look(i + AT_ONCE);
        if (i == THREADS / 2) {
            fork_leaves_only_the_forker();
        }
        for (size_t k = 0; k < AT_ONCE; k++) {
            pthread_join(threads[k], NULL);
        }
    }
    CHECK(pw_load_acquire(&pw_owner_deaths) == deaths + THREADS);
    look(THREADS);
    take_what_the_dead_left();
    for (size_t i = 0; i < THREADS * VALUES; i++) {
        CHECK(seen[i] == 1);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pw_queue_free(&locals[i].shared);
    }
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 3, run);
}
