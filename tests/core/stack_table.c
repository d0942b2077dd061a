/* stack_table.c: nodes, stacks and codes, each once, beside plain arrays. */
#include "check.h"

#include <sys/mman.h>

static unsigned mappings_left = UINT32_MAX;

static void *
some_mmap(void *hint, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (mappings_left == 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    mappings_left--;
    return mmap(hint, bytes, protection, flags, fd, offset);
}

#define mmap some_mmap
#include "stack_table.h"
#undef mmap

enum { CODES = 50, INSTRUCTIONS = 4, STEPS = 200000 };

static pw_stack_table table;
static struct {
    const void *code;
    uint32_t parent, instruction;
} nodes[PW_NODE_MAX + 1];
static uint32_t ids[PW_NODE_MAX + 1][CODES][INSTRUCTIONS]; /* by parent; 0: not seen */
static uint32_t stacks[PW_NODE_MAX + 1];                   /* the stack that ends in this node */

static const void *
code_at(size_t i)
{
    return (const void *)(UINT64_C(0x7f0012340000) + 176 * i); /* as an allocator places them */
}

static uint64_t
hash_of(uint32_t node)
{
    uint64_t hash = 0;
    for (; node != 0; node = nodes[node].parent) {
        hash = pw_mix(pw_mix(hash, (uintptr_t)nodes[node].code), nodes[node].instruction);
    }
    return hash;
}

static void
init(void)
{
    if (table.nodes != NULL) {
        memset(table.nodes, 0, PW_NODE_SLOTS * sizeof(pw_node_slot));
        memset(table.stacks, 0, PW_NODE_SLOTS * sizeof(pw_stack_slot));
        memset(table.codes, 0, PW_NODE_SLOTS * sizeof(pw_code_slot));
        table.node_count = table.stack_count = table.code_count = 0;
        return;
    }
    mappings_left = 0;
    CHECK(pw_stack_table_init(&table) == -1);
    for (int missing = 2; missing >= 0; missing--) { /* half made, then made on a later try */
        mappings_left = 1;
        CHECK(pw_stack_table_init(&table) == (missing == 0 ? 0 : -1));
    }
    mappings_left = UINT32_MAX;
    CHECK(pw_stack_table_init(&table) == 0);
    CHECK(table.nodes != NULL && table.stacks != NULL && table.codes != NULL);
}

static void
run(void)
{
    init();
    memset(ids, 0, sizeof(ids));
    memset(stacks, 0, sizeof(stacks));
    uint32_t code_ids[CODES] = {0};
    for (at.step = 0; at.step < STEPS; at.step++) {
        size_t c = below(CODES), instruction = below(INSTRUCTIONS);
        uint32_t parent = (uint32_t)below(table.node_count + 1);
        uint32_t *expected = &ids[parent][c][instruction];
        pw_node_slot *node = pw_node_slot_of(&table, parent, code_at(c), 2 * (uint32_t)instruction);
        CHECK(node->id == *expected);
        if (node->id == 0 && table.node_count < PW_NODE_MAX) {
            *node =
                (pw_node_slot){code_at(c), parent, 2 * (uint32_t)instruction, ++table.node_count};
            *expected = node->id;
            nodes[node->id].code = code_at(c);
            nodes[node->id].parent = parent;
            nodes[node->id].instruction = 2 * (uint32_t)instruction;
        }

        pw_code_slot *code = pw_code_slot_of(&table, code_at(c));
        CHECK(code->id == code_ids[c]);
        if (code->code == NULL) {
            *code = (pw_code_slot){code_at(c), code_ids[c] = ++table.code_count, 0};
        }

        uint32_t leaf = (uint32_t)below(table.node_count + 1);
        pw_stack_slot *stack = pw_stack_slot_of(&table, hash_of(leaf));
        CHECK(stack->id == stacks[leaf]);
        if (stack->id == 0 && leaf != 0) {
            *stack = (pw_stack_slot){hash_of(leaf), stacks[leaf] = leaf};
            table.stack_count++;
        }
    }
    CHECK(table.node_count == PW_NODE_MAX);
    uint32_t used = 0;
    for (uint32_t i = 0; i < PW_NODE_SLOTS; i++) {
        used += table.nodes[i].id != 0;
    }
    CHECK(used == table.node_count);
    for (uint32_t id = 1; id <= table.node_count; id++) {
        CHECK(
            pw_node_slot_of(&table, nodes[id].parent, nodes[id].code, nodes[id].instruction)->id ==
            id);
        CHECK(pw_stack_slot_of(&table, hash_of(id))->id == stacks[id]);
    }
}

int
main(int argc, char **argv)
{
    return drive(argc, argv, 3, run);
}
