/* stack_table.h: stacks as nodes of a tree, each (caller node, code, instruction) once.
 *
 * Plain C: a code object is an opaque pointer here. A stack seen before is found by one look-up
 * of its 64-bit hash, which stands for it: with 2^15 stacks two share a hash with a probability of
 * 2^-35. Guard: the sampler's lock. */
#ifndef PW_STACK_TABLE_H
#define PW_STACK_TABLE_H

#include "mapped.h"

#include <stdint.h>

#define PW_NODE_BITS 16
#define PW_NODE_SLOTS (1u << PW_NODE_BITS)
#define PW_NODE_MAX (PW_NODE_SLOTS / 4 * 3)
#define PW_STACK_OVERFLOW UINT32_MAX /* the table is full: the stack stays unknown */

typedef struct {
    const void *code;
    uint32_t parent, instruction_bytes;
    uint32_t id; /* 0: empty */
} pw_node_slot;

typedef struct {
    uint64_t hash;
    uint32_t id; /* 0: empty */
} pw_stack_slot;

typedef struct {
    const void *code; /* NULL: empty */
    uint32_t id;
    uint32_t held; /* whether there is a reference that keeps it alive */
} pw_code_slot;

typedef struct {
    pw_node_slot *nodes;
    pw_stack_slot *stacks;
    pw_code_slot *codes;
    uint32_t node_count, stack_count, code_count;
} pw_stack_table;

static inline uint64_t
pw_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9fb21c651e98df25);
    return hash ^ (hash >> 29);
}

static inline int
pw_stack_table_init(pw_stack_table *table)
{
    if (table->nodes == NULL) {
        table->nodes = pw_map_populated(PW_NODE_SLOTS * sizeof(pw_node_slot));
    }
    if (table->stacks == NULL) {
        table->stacks = pw_map_populated(PW_NODE_SLOTS * sizeof(pw_stack_slot));
    }
    if (table->codes == NULL) {
        table->codes = pw_map_populated(PW_NODE_SLOTS * sizeof(pw_code_slot));
    }
    return table->nodes && table->stacks && table->codes ? 0 : -1;
}

/* The slot that holds this stack's hash, or the empty one where it belongs. */
static inline pw_stack_slot *
pw_stack_slot_of(pw_stack_table *table, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash >> 32) & (PW_NODE_SLOTS - 1);
    while (table->stacks[i].id != 0 && table->stacks[i].hash != hash) {
        i = (i + 1) & (PW_NODE_SLOTS - 1);
    }
    return &table->stacks[i];
}

static inline pw_node_slot *
pw_node_slot_of(pw_stack_table *table, uint32_t parent, const void *code, uint32_t instruction)
{
    uint64_t hash = pw_mix(pw_mix((uintptr_t)code, parent), instruction);
    uint32_t i = (uint32_t)(hash >> 32) & (PW_NODE_SLOTS - 1);
    while (table->nodes[i].id != 0 &&
           !(table->nodes[i].code == code && table->nodes[i].parent == parent &&
             table->nodes[i].instruction_bytes == instruction)) {
        i = (i + 1) & (PW_NODE_SLOTS - 1);
    }
    return &table->nodes[i];
}

static inline pw_code_slot *
pw_code_slot_of(pw_stack_table *table, const void *code)
{
    uint32_t i = (uint32_t)(pw_mix(0, (uintptr_t)code) >> 32) & (PW_NODE_SLOTS - 1);
    while (table->codes[i].code != NULL && table->codes[i].code != code) {
        i = (i + 1) & (PW_NODE_SLOTS - 1);
    }
    return &table->codes[i];
}

#endif
