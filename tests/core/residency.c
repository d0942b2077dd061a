/* residency.c: pages of mappings that were touched, in part or not at all (mapped.h too). */
#include "check.h"
#include "mapped.h"
#include "residency.h"

static char *
map_pages(size_t pages)
{
    char *memory = mmap(NULL, pages * PW_PAGE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    /* With huge pages one touch would make 512 resident; fails where there are none to refuse. */
    (void)madvise(memory, pages * PW_PAGE_BYTES, MADV_NOHUGEPAGE);
    return memory;
}

static uint32_t
resident(const char *memory, size_t bytes)
{
    return pw_resident_pages((uintptr_t)memory, bytes);
}

static void
whole_pages(void)
{
    const uintptr_t page = PW_PAGE_BYTES;
    CHECK(pw_whole_pages(page, 0) == 0);
    CHECK(pw_whole_pages(page, page - 1) == 0);
    CHECK(pw_whole_pages(page, page) == 1);
    CHECK(pw_whole_pages(page + 1, 2 * page - 2) == 0);
    CHECK(pw_whole_pages(page + 1, 2 * page - 1) == 1);
    CHECK(pw_whole_pages(page - 1, page + 1) == 1);
}

/* Up to 64 MiB: exact, at any alignment. */
static void
random_touches(void)
{
    size_t pages = 1 + below(3 * PW_RESIDENCY_WINDOW), touched = 0;
    size_t offset = below(2) ? below(PW_PAGE_BYTES) : 0;
    char *memory = map_pages(pages);
    size_t size = pages * PW_PAGE_BYTES;
    CHECK(resident(memory, size) == 0);
    for (size_t i = 0; i < pages; i++) {
        if (below(2)) {
            memory[i * PW_PAGE_BYTES + below(PW_PAGE_BYTES)] = 1;
            touched += i > 0 || offset == 0; /* page 0 is not whole, from inside it */
        }
    }
    CHECK(resident(memory + offset, size - offset) == touched);
    memset(memory, 1, size);
    CHECK(resident(memory, size) == pages);
    CHECK(munmap(memory, size) == 0);
    CHECK(resident(memory, size) == 0);
}

/* Above: an estimate from 16 windows or more, off by less than what lies between two of them. */
static void
large_blocks(void)
{
    size_t windows = 33 + below(32), pages = windows * PW_RESIDENCY_WINDOW + below(1000);
    size_t size = pages * PW_PAGE_BYTES, half = pages / 2, stride = windows / PW_RESIDENCY_WINDOWS;
    char *memory = map_pages(pages);
    CHECK(resident(memory, size) == 0);
    for (size_t i = 0; i < half; i++) {
        memory[i * PW_PAGE_BYTES] = 1;
    }
    uint32_t found = resident(memory, size);
    size_t error = found > half ? found - half : half - found;
    CHECK(error <= (stride + 1) * PW_RESIDENCY_WINDOW);
    CHECK(munmap(memory, size) == 0);
}

static void
run(void)
{
    whole_pages();
    for (at.step = 0; at.step < 20; at.step++) {
        random_touches();
    }
    large_blocks();

    char *populated = pw_map_populated(100 * PW_PAGE_BYTES);
    CHECK(populated != NULL);
    CHECK(resident(populated, 100 * PW_PAGE_BYTES) == 100);
    for (size_t i = 0; i < 100 * PW_PAGE_BYTES; i++) {
        CHECK(populated[i] == 0);
    }
    CHECK(munmap(populated, 100 * PW_PAGE_BYTES) == 0);
    CHECK(pw_map_populated(SIZE_MAX / 2) == NULL);
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 3, run);
}
