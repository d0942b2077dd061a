/* library_hooks.c: what extension modules allocate behind CPython's back.
 *
 * Four kinds of functions are stood in front of, by rewriting the entries of a loaded library's
 * own relocation table (as memray does): in numpy, the two by which it reports every array buffer
 * to tracemalloc, its small-block cache included, whether tracemalloc runs or not; in the
 * interpreter (whose blocks are seen in its own domains), those that end or replace the process at
 * once, to write first what is in the buffers; in greenlet, the free during which there is no stack
 * to be read; in every other library, the malloc family. Not touched: the C library, the dynamic
 * loader and ourselves. */
#include "sampler.h"

#include <elf.h>
#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NUMPY_TRACE_DOMAIN 389047
#define MAX_LIBRARIES 4096

static int
hook_track(unsigned int domain, uintptr_t block, size_t bytes)
{
    if (domain == NUMPY_TRACE_DOMAIN) {
        pw_allocated((void *)block, bytes, PW_DOMAIN_NUMPY);
    }
    return PyTraceMalloc_Track(domain, block, bytes);
}

static int
hook_untrack(unsigned int domain, uintptr_t block)
{
    if (domain == NUMPY_TRACE_DOMAIN) {
        pw_freeing((void *)block);
    }
    return PyTraceMalloc_Untrack(domain, block);
}

/* numpy reports a zeroed buffer like any other: that it came from calloc is noted on the way. */
static void *
hook_numpy_calloc(size_t count, size_t bytes)
{
    return pw_self.zeroed = calloc(count, bytes);
}

static void *
hook_malloc(size_t bytes)
{
    void *block = malloc(bytes);
    pw_allocated(block, bytes, PW_DOMAIN_NATIVE);
    return block;
}

static void *
hook_calloc(size_t count, size_t bytes)
{
    void *block = pw_self.zeroed = calloc(count, bytes);
    pw_allocated(block, count * bytes, PW_DOMAIN_NATIVE); /* block is NULL on overflow */
    return block;
}

static void *
hook_realloc(void *block, size_t bytes)
{
    if (block != NULL) {
        pw_freeing(block);
    }
    void *moved = realloc(block, bytes);
    pw_allocated(moved, bytes, PW_DOMAIN_NATIVE);
    return moved;
}

static int
hook_posix_memalign(void **block, size_t alignment, size_t bytes)
{
    int error = posix_memalign(block, alignment, bytes);
    if (error == 0) {
        pw_allocated(*block, bytes, PW_DOMAIN_NATIVE);
    }
    return error;
}

static void *
hook_aligned_alloc(size_t alignment, size_t bytes)
{
    void *block = aligned_alloc(alignment, bytes);
    pw_allocated(block, bytes, PW_DOMAIN_NATIVE);
    return block;
}

static void *
hook_memalign(size_t alignment, size_t bytes)
{
    void *block = memalign(alignment, bytes);
    pw_allocated(block, bytes, PW_DOMAIN_NATIVE);
    return block;
}

static void
hook_free(void *block)
{
    pw_freeing(block);
    free(block);
}

/* greenlet frees its copy of a C stack just after it has put it back, and before the thread knows
 * of it: up to 3.12 the thread's frames begin in what was the other stack. */
static void
hook_stack_free(void *block)
{
    pw_self.stackless++;
    PyMem_Free(block);
    pw_self.stackless--;
}

/* The ways to leave that run no atexit handler: another program, or none. */
static int
hook_execv(const char *path, char *const arguments[])
{
    pw_flush();
    return execv(path, arguments);
}

static int
hook_execve(const char *path, char *const arguments[], char *const environment[])
{
    pw_flush();
    return execve(path, arguments, environment);
}

static int
hook_fexecve(int fd, char *const arguments[], char *const environment[])
{
    pw_flush();
    return fexecve(fd, arguments, environment);
}

static void
hook_exit(int status)
{
    pw_finish();
    _exit(status);
}

typedef struct {
    const char *symbol;
    void *hook;
} replacement;

static const replacement interpreter_hooks[] = {
    {"execv", (void *)hook_execv},
    {"execve", (void *)hook_execve},
    {"fexecve", (void *)hook_fexecve},
    {"_exit", (void *)hook_exit},
    {NULL, NULL},
};

static const replacement numpy_hooks[] = {
    {"PyTraceMalloc_Track", (void *)hook_track},
    {"PyTraceMalloc_Untrack", (void *)hook_untrack},
    {"calloc", (void *)hook_numpy_calloc},
    {NULL, NULL},
};

static const replacement malloc_hooks[] = {
    {"malloc", (void *)hook_malloc},
    {"calloc", (void *)hook_calloc},
    {"realloc", (void *)hook_realloc},
    {"free", (void *)hook_free},
    {"posix_memalign", (void *)hook_posix_memalign},
    {"aligned_alloc", (void *)hook_aligned_alloc},
    {"memalign", (void *)hook_memalign},
    {NULL, NULL},
};

static const replacement greenlet_hooks[] = {
    {"PyMem_Free", (void *)hook_stack_free},
    {NULL, NULL},
};

/* Guard: the GIL. Libraries are known by where they are loaded; none is ever unloaded while its
 * address is kept (extension modules stay), and a reused address costs no more than a blind spot.
 */
static ElfW(Addr) seen[MAX_LIBRARIES];
static int seen_count;

static int
is_seen(ElfW(Addr) base)
{
    for (int i = 0; i < seen_count; i++) {
        if (seen[i] == base) {
            return 1;
        }
    }
    if (seen_count < MAX_LIBRARIES) {
        seen[seen_count++] = base;
    }
    return 0;
}

/* NULL: leave this library alone. */
static const replacement *
hooks_for(const char *path)
{
    static const char *const left_alone[] = {"libc.so",  "libc-",      "ld-linux",
                                             "ld-musl",  "linux-vdso", "libasan",
                                             "libubsan", "libtsan",    "_core."};
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    if (*name == '\0' || strncmp(name, "libpython", 9) == 0) { /* '\0': the executable */
        return interpreter_hooks;
    }
    for (size_t i = 0; i < sizeof(left_alone) / sizeof(left_alone[0]); i++) {
        if (strncmp(name, left_alone[i], strlen(left_alone[i])) == 0) {
            return NULL;
        }
    }
    return strncmp(name, "_multiarray_umath", 17) == 0 ? numpy_hooks
           : strncmp(name, "_greenlet.", 10) == 0      ? greenlet_hooks
                                                       : malloc_hooks;
}

/* The table is read-only after start-up where the library was linked so: open its page. It stays
 * writable, since whether it was before is not known here and lazy binding needs it. */
static void
write_entry(void **entry, void *value)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)entry & ~(page - 1));
    if (mprotect(start, page, PROT_READ | PROT_WRITE) == 0) {
        __atomic_store_n(entry, value, __ATOMIC_RELEASE);
    }
}

static int
hook_library(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    if (info->dlpi_name == NULL || is_seen(info->dlpi_addr)) {
        return 0;
    }
    const replacement *hooks = hooks_for(info->dlpi_name);
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; hooks != NULL && i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        }
    }
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const ElfW(Rela) * tables[2] = {NULL, NULL};
    size_t bytes[2] = {0, 0};
    for (; dynamic != NULL && dynamic->d_tag != DT_NULL; dynamic++) {
        switch (dynamic->d_tag) {
        case DT_SYMTAB:
            symbols = (const ElfW(Sym) *)dynamic->d_un.d_ptr;
            break;
        case DT_STRTAB:
            strings = (const char *)dynamic->d_un.d_ptr;
            break;
        case DT_JMPREL:
            tables[0] = (const ElfW(Rela) *)dynamic->d_un.d_ptr;
            break;
        case DT_PLTRELSZ:
            bytes[0] = dynamic->d_un.d_val;
            break;
        case DT_RELA:
            tables[1] = (const ElfW(Rela) *)dynamic->d_un.d_ptr;
            break;
        case DT_RELASZ:
            bytes[1] = dynamic->d_un.d_val;
            break;
        default:
            break;
        }
    }
    for (int t = 0; symbols != NULL && strings != NULL && t < 2; t++) {
        for (size_t i = 0; tables[t] != NULL && i < bytes[t] / sizeof(ElfW(Rela)); i++) {
            const ElfW(Rela) *relocation = &tables[t][i];
            uint64_t symbol = ELF64_R_SYM(relocation->r_info);
            if (symbol == 0) { /* a relative relocation: by far the most */
                continue;
            }
            const char *name = strings + symbols[symbol].st_name;
            for (const replacement *hook = hooks; hook->symbol != NULL; hook++) {
                if (strcmp(name, hook->symbol) == 0) {
                    write_entry((void **)(info->dlpi_addr + relocation->r_offset), hook->hook);
                }
            }
        }
    }
    return 0;
}

void
pw_hook_libraries(void)
{
    dl_iterate_phdr(hook_library, NULL);
}
