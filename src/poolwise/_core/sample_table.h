/* sample_table.h: the sampled blocks that are alive, by address.
 *
 * Two parts. The filter answers "surely not sampled" with one byte load, for every free of the
 * program: cell = how many sampled blocks hash there (sticks at 255). Neighbouring blocks have
 * neighbouring cells, so a hot arena touches few cache lines of it. The table is open addressing
 * with linear probing and backward-shift deletion, so no tombstones pile up.
 *
 * Invariant: every block in the table has a non-zero filter cell; pw_table_check() walks it.
 * Guard: the sampler's lock for everything but the filter's reads, which are relaxed: a thread
 * that frees a block got its address from the thread that made it, and with it the cell. */
#ifndef PW_SAMPLE_TABLE_H
#define PW_SAMPLE_TABLE_H

#include "mapped.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PW_FILTER_BITS 16
#ifndef PW_TABLE_BITS
#define PW_TABLE_BITS 16
#endif
#define PW_TABLE_SLOTS (1u << PW_TABLE_BITS)
#define PW_TABLE_MAX (PW_TABLE_SLOTS / 4 * 3)
#define PW_REALLOCS_MAX 4095u

typedef struct {
    uintptr_t address; /* 0: empty */
    uint64_t bytes : 48, domain : 4, reallocs : 12;
    uint32_t id;
    int32_t resident_pages; /* at birth; after a realloc: less what was touched before it */
} pw_sample;

typedef struct {
    pw_sample *slots;
    uint32_t used;
} pw_table;

extern _Atomic uint8_t pw_filter[1u << PW_FILTER_BITS];

static inline uint32_t
pw_filter_cell(const void *block)
{
    uintptr_t address = (uintptr_t)block;
    return (uint32_t)((address >> 4) ^ (address >> 20)) & ((1u << PW_FILTER_BITS) - 1);
}

static inline bool
pw_filter_maybe(const void *block)
{
    return atomic_load_explicit(&pw_filter[pw_filter_cell(block)], memory_order_relaxed) != 0;
}

static inline uint32_t
pw_table_home(uintptr_t address)
{
    return (uint32_t)(((uint64_t)address * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - PW_TABLE_BITS));
}

static inline int
pw_table_init(pw_table *table)
{
    if (table->slots == NULL) {
        table->slots = pw_map_populated(PW_TABLE_SLOTS * sizeof(pw_sample));
    }
    return table->slots == NULL ? -1 : 0;
}

static inline void
pw_filter_add(uintptr_t address, int change)
{
    _Atomic uint8_t *cell = &pw_filter[pw_filter_cell((void *)address)];
    uint8_t count = atomic_load_explicit(cell, memory_order_relaxed);
    if (count != UINT8_MAX) {
        atomic_store_explicit(cell, (uint8_t)(count + change), memory_order_relaxed);
    }
}

static inline pw_sample *
pw_table_find(pw_table *table, uintptr_t address)
{
    for (uint32_t i = pw_table_home(address);; i = (i + 1) & (PW_TABLE_SLOTS - 1)) {
        if (table->slots[i].address == 0) { /* first: free(NULL) asks for address 0 */
            return NULL;
        }
        if (table->slots[i].address == address) {
            return &table->slots[i];
        }
    }
}

/* The address must not be in the table, and the table must hold fewer than PW_TABLE_MAX. */
static inline void
pw_table_insert(pw_table *table, pw_sample sample)
{
    uint32_t i = pw_table_home(sample.address);
    while (table->slots[i].address != 0) {
        i = (i + 1) & (PW_TABLE_SLOTS - 1);
    }
    table->slots[i] = sample;
    table->used++;
    pw_filter_add(sample.address, 1);
}

static inline void
pw_table_remove(pw_table *table, pw_sample *sample)
{
    pw_filter_add(sample->address, -1);
    table->used--;
    uint32_t hole = (uint32_t)(sample - table->slots);
    for (uint32_t i = (hole + 1) & (PW_TABLE_SLOTS - 1); table->slots[i].address != 0;
         i = (i + 1) & (PW_TABLE_SLOTS - 1)) {
        /* An entry may fill the hole unless its home lies cyclically in (hole, i]. */
        uint32_t home = pw_table_home(table->slots[i].address);
        if (((i - home) & (PW_TABLE_SLOTS - 1)) >= ((i - hole) & (PW_TABLE_SLOTS - 1))) {
            table->slots[hole] = table->slots[i];
            hole = i;
        }
    }
    table->slots[hole].address = 0;
}

static inline bool
pw_table_check(pw_table *table)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < PW_TABLE_SLOTS; i++) {
        if (table->slots[i].address == 0) {
            continue;
        }
        used++;
        if (pw_table_find(table, table->slots[i].address) != &table->slots[i] ||
            !pw_filter_maybe((void *)table->slots[i].address)) {
            return false;
        }
    }
    return used == table->used;
}

#endif
