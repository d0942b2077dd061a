/* failing_memory.c: preloaded by test_buffer_memory.py: poolwise's n-th request for memory fails.
 *
 * Only calls out of poolwise's own library count. `fail(n, m)`: of the next ones, those from the
 * n-th to the m-th fail; `failed()`: how many did; `held()`: blocks and mappings not given back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_calloc(size_t, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static long asked, first = 1, last, failures, blocks;

void
fail(long from, long to)
{
    asked = failures = 0;
    first = from;
    last = to;
}

long
failed(void)
{
    return failures;
}

long
held(void)
{
    return blocks;
}

static int
ours(void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) != 0 && strstr(info.dli_fname, "poolwise/_core") != NULL;
}

static int
fails(void)
{
    asked++;
    int now = asked >= first && asked <= last;
    failures += now;
    blocks += !now;
    return now;
}

void *
calloc(size_t count, size_t size)
{
    if (ours(__builtin_return_address(0)) && fails()) {
        return NULL;
    }
    return __libc_calloc(count, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    if (ours(__builtin_return_address(0)) && fails()) {
        return NULL;
    }
    return __libc_memalign(alignment, size);
}

void
free(void *memory)
{
    if (memory != NULL && ours(__builtin_return_address(0))) {
        blocks--;
    }
    __libc_free(memory);
}

static void *
map_for(void *caller, void *hint, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (ours(caller) && fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, hint, size, protection, flags, fd, offset);
}

void *
mmap(void *hint, size_t size, int protection, int flags, int fd, off_t offset)
{
    return map_for(__builtin_return_address(0), hint, size, protection, flags, fd, offset);
}

void *
mmap64(void *hint, size_t size, int protection, int flags, int fd, off_t offset)
{
    return map_for(__builtin_return_address(0), hint, size, protection, flags, fd, offset);
}

int
munmap(void *memory, size_t size)
{
    blocks -= ours(__builtin_return_address(0));
    return (int)syscall(SYS_munmap, memory, size);
}
