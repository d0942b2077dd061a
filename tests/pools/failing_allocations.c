/* failing_allocations.c: preloaded, it fails one allocation that the core asks of the C library.
 *
 * Whose an allocation is, its return address says. What the core was given and has not freed is
 * kept in a table, so that a test can ask how much that is. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *memory);

enum { TABLE = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t core_start, core_end; /* 0: nothing is watched */
static void *given[TABLE];
static long alive, asked, fail_from = -1, fail_until = -1;

/* Which calls fail from now on, counted from 0; none where from is negative. */
void
fail_allocations(uintptr_t start, uintptr_t end, long from, long until)
{
    core_start = start;
    core_end = end;
    fail_from = from;
    fail_until = until;
    asked = 0;
}

long
allocations_asked(void)
{
    return asked;
}

long
allocations_alive(void)
{
    return alive;
}

static bool
is_core(void *caller)
{
    return (uintptr_t)caller >= core_start && (uintptr_t)caller < core_end;
}

static bool
must_fail(void)
{
    long number = __atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED);
    return number >= fail_from && number < fail_until;
}

static void *
noted(void *memory)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; memory != NULL && i < TABLE; i++) {
        if (given[i] == NULL) {
            given[i] = memory;
            __atomic_fetch_add(&alive, 1, __ATOMIC_RELAXED);
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return memory;
}

static void
forget(void *memory)
{
    if (memory == NULL || __atomic_load_n(&alive, __ATOMIC_RELAXED) == 0) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < TABLE; i++) {
        if (given[i] == memory) {
            given[i] = NULL;
            __atomic_fetch_sub(&alive, 1, __ATOMIC_RELAXED);
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

/* An allocation of the core: NULL where it is to fail. */
#define ALLOCATION(made)                                                                           \
    if (!is_core(__builtin_return_address(0))) {                                                   \
        return made;                                                                               \
    }                                                                                              \
    if (must_fail()) {                                                                             \
        errno = ENOMEM;                                                                            \
        return NULL;                                                                               \
    }                                                                                              \
    return noted(made)

void *
malloc(size_t bytes)
{
    ALLOCATION(__libc_malloc(bytes));
}

void *
calloc(size_t count, size_t bytes)
{
    ALLOCATION(__libc_calloc(count, bytes));
}

void *
aligned_alloc(size_t alignment, size_t bytes)
{
    ALLOCATION(__libc_memalign(alignment, bytes));
}

void
free(void *memory)
{
    forget(memory);
    __libc_free(memory);
}

/* Mappings fail too; the kernel knows which are alive. */
void *
mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset)
{
    if (is_core(__builtin_return_address(0)) && must_fail()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}
