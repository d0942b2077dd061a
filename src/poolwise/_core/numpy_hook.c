/* numpy_hook.c: numpy's array buffers, through the two functions it reports them with.
 *
 * numpy calls PyTraceMalloc_Track and _Untrack for every buffer, its small-block cache included,
 * whether tracemalloc runs or not. We find the two entries in the library's own relocation table
 * and point them at us; the library keeps calling tracemalloc through us. */
#include "sampler.h"

#include <elf.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NUMPY_TRACE_DOMAIN 389047

typedef struct {
    const char *library;
    int patched;
    const char *problem;
} patch_request;

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

static void *
replacement_of(const char *symbol)
{
    if (strcmp(symbol, "PyTraceMalloc_Track") == 0) {
        return (void *)hook_track;
    }
    if (strcmp(symbol, "PyTraceMalloc_Untrack") == 0) {
        return (void *)hook_untrack;
    }
    return NULL;
}

/* The table is read-only after start-up (RELRO): open its page, write one word, close it. */
static int
write_entry(void **entry, void *value)
{
    long page = sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)entry & ~((uintptr_t)page - 1));
    if (mprotect(start, (size_t)page, PROT_READ | PROT_WRITE) != 0) {
        return 0;
    }
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
    /* Left writable: whether the page was RELRO is not ours to know, and lazy binding needs it. */
    return 1;
}

static int
patch_library(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    patch_request *request = data;
    char real[PATH_MAX];
    if (info->dlpi_name == NULL || realpath(info->dlpi_name, real) == NULL ||
        strcmp(real, request->library) != 0) {
        return 0;
    }
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        }
    }
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const ElfW(Rela) *tables[2] = {NULL, NULL};
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
    if (symbols == NULL || strings == NULL) {
        request->problem = "it has no dynamic symbol table";
        return 1;
    }
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; tables[t] != NULL && i < bytes[t] / sizeof(ElfW(Rela)); i++) {
            const ElfW(Rela) *relocation = &tables[t][i];
            uint64_t kind = ELF64_R_TYPE(relocation->r_info);
            if (kind != R_X86_64_JUMP_SLOT && kind != R_X86_64_GLOB_DAT &&
                kind != R_AARCH64_JUMP_SLOT && kind != R_AARCH64_GLOB_DAT) {
                continue;
            }
            const char *name = strings + symbols[ELF64_R_SYM(relocation->r_info)].st_name;
            void *value = replacement_of(name);
            if (value == NULL) {
                continue;
            }
            if (!write_entry((void **)(info->dlpi_addr + relocation->r_offset), value)) {
                request->problem = "its relocation table cannot be opened for writing";
                return 1;
            }
            request->patched++;
        }
    }
    return 1;
}

int
pw_numpy_install(const char *library, const char **problem)
{
    char real[PATH_MAX];
    if (realpath(library, real) == NULL) {
        *problem = "no such library";
        return 0;
    }
    patch_request request = {.library = real};
    dl_iterate_phdr(patch_library, &request);
    *problem = request.problem ? request.problem
                               : "it does not call PyTraceMalloc_Track and PyTraceMalloc_Untrack";
    return request.patched >= 2;
}
