/* sample_table.c: the sampled blocks by address, beside a list of all addresses of a small world.
 *
 * The world holds neighbouring addresses, ones that share a home or a filter's cell, and ones
 * whose home is the table's last slots, so that their runs wrap around. */
#include "check.h"
#include "sample_table.h"

_Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

enum { WORLD = 600, STEPS = 20000 };

static pw_table table;

static void
empty(void)
{
    CHECK(pw_table_init(&table) == 0);
    memset(table.slots, 0, PW_TABLE_SLOTS * sizeof(pw_sample));
    memset(pw_filter, 0, sizeof(pw_filter));
    table.used = 0;
}

/* An address whose home is this slot: the hash's factor is odd, so it has an inverse. */
static uintptr_t
address_with_home(uint32_t home)
{
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t inverse = factor;
    for (int i = 0; i < 6; i++) { /* Newton: each step doubles the bits that are right */
        inverse *= 2 - factor * inverse;
    }
    uint64_t hash = (uint64_t)home << (64 - PW_TABLE_BITS) | next_random() >> PW_TABLE_BITS;
    CHECK(pw_table_home(hash * inverse) == home);
    return hash * inverse;
}

static pw_sample
sample_at(uintptr_t address, uint32_t id)
{
    return (pw_sample){.address = address, .bytes = address % 1000003, .domain = id % 3, .id = id};
}

static bool
same(const pw_sample *found, uintptr_t address, uint32_t id)
{
    return found != NULL && found->address == address && found->id == id &&
           found->bytes == address % 1000003 && found->domain == id % 3;
}

static void
small_world(void)
{
    static uintptr_t world[WORLD];
    static uint32_t ids[WORLD]; /* 0: not in the table */
    uintptr_t arena = next_random() >> 17 << 4;
    empty();
    memset(ids, 0, sizeof(ids));
    for (size_t i = 0; i < WORLD; i++) {
        uint32_t slot = (uint32_t)(PW_TABLE_SLOTS - 8 + below(12)) & (PW_TABLE_SLOTS - 1);
        world[i] = i < WORLD / 3 ? arena + 16 * i : address_with_home(slot);
    }
    for (at.step = 0; at.step < STEPS; at.step++) {
        size_t i = below(WORLD);
        pw_sample *found = pw_table_find(&table, world[i]);
        if (ids[i] != 0) {
            CHECK(same(found, world[i], ids[i]));
            CHECK(pw_filter_maybe((void *)world[i]));
            pw_table_remove(&table, found);
            ids[i] = 0;
        } else {
            CHECK(found == NULL);
            ids[i] = (uint32_t)at.step + 1;
            pw_table_insert(&table, sample_at(world[i], ids[i]));
        }
        CHECK(pw_table_find(&table, 0) == NULL);
        if (at.step % 1000 == 0) {
            CHECK(pw_table_check(&table));
        }
        if (at.step % 100 == 0) {
            for (size_t k = 0; k < WORLD; k++) {
                found = pw_table_find(&table, world[k]);
                CHECK(ids[k] == 0 ? found == NULL : same(found, world[k], ids[k]));
            }
        }
    }
}

static void
full_table(void)
{
    static uintptr_t addresses[PW_TABLE_MAX];
    uintptr_t arena = next_random() >> 17 << 4;
    empty();
    for (uint32_t i = 0; i < PW_TABLE_MAX; i++) {
        addresses[i] = arena + (uintptr_t)16 * i;
        pw_table_insert(&table, sample_at(addresses[i], i));
    }
    CHECK(table.used == PW_TABLE_MAX && pw_table_check(&table));
    CHECK(pw_table_find(&table, 0) == NULL);
    CHECK(pw_table_find(&table, arena - 16) == NULL);
    for (uint32_t left = PW_TABLE_MAX; left > 0; left--) {
        size_t i = below(left);
        pw_table_remove(&table, pw_table_find(&table, addresses[i]));
        CHECK(pw_table_find(&table, addresses[i]) == NULL);
        addresses[i] = addresses[left - 1];
        if (left % 10000 == 0) {
            CHECK(pw_table_check(&table));
        }
    }
    CHECK(table.used == 0 && pw_table_check(&table));
    for (size_t i = 0; i < PW_TABLE_SLOTS; i++) {
        CHECK(table.slots[i].address == 0);
    }
    for (size_t i = 0; i < 1u << PW_FILTER_BITS; i++) {
        CHECK(pw_filter[i] == 0);
    }
}

/* More samples in one cell than a byte counts: the cell sticks rather than forget one. */
static void
crowded_cell(void)
{
    enum { CROWD = 300 };
    uintptr_t addresses[CROWD];
    empty();
    for (uintptr_t i = 0; i < CROWD; i++) {
        addresses[i] = (i + 1) << 36 | 0x1230;
        CHECK(pw_filter_cell((void *)addresses[i]) == 0x123);
        pw_table_insert(&table, sample_at(addresses[i], 1));
    }
    CHECK(!pw_filter_maybe((void *)(uintptr_t)0x1240));
    for (size_t i = 0; i < CROWD; i++) {
        CHECK(pw_table_check(&table));
        CHECK(pw_filter_maybe((void *)addresses[i]));
        pw_table_remove(&table, pw_table_find(&table, addresses[i]));
    }
    CHECK(pw_filter_maybe((void *)addresses[0]));
}

static void
run(void)
{
    small_world();
    full_table();
    crowded_cell();
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 5, run);
}
