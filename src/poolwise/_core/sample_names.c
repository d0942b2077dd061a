/* sample_names.c: stacks, code objects and types, each written to the log once and then numbered.
 */
#include "sampler_state.h"

#include "pystack.h"

static pw_piece
text_piece(PyObject *text, uint8_t *space, uint32_t room, uint32_t *length)
{
    pw_piece piece = {space, 0};
    if (text != NULL && PyUnicode_IS_COMPACT_ASCII(text)) {
        piece.bytes = PyUnicode_DATA(text);
        piece.count = (uint32_t)PyUnicode_GET_LENGTH(text);
    } else if (text != NULL) { /* UTF-8 by hand: PyUnicode_AsUTF8 would allocate */
        for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text) && piece.count + 4 <= room; i++) {
            Py_UCS4 c = PyUnicode_READ_CHAR(text, i);
            uint8_t *to = space + piece.count;
            if (c < 0x80) {
                *to = (uint8_t)c;
                piece.count += 1;
            } else if (c < 0x800) {
                to[0] = (uint8_t)(0xc0 | c >> 6);
                to[1] = (uint8_t)(0x80 | (c & 0x3f));
                piece.count += 2;
            } else if (c < 0x10000) {
                to[0] = (uint8_t)(0xe0 | c >> 12);
                to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                to[2] = (uint8_t)(0x80 | (c & 0x3f));
                piece.count += 3;
            } else {
                to[0] = (uint8_t)(0xf0 | c >> 18);
                to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
                to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                to[3] = (uint8_t)(0x80 | (c & 0x3f));
                piece.count += 4;
            }
        }
    }
    *length = piece.count;
    return piece;
}

/* The code's number, from 1; written with all that is needed to name a line and its columns. */
static uint32_t
code_id(PyCodeObject *code)
{
    pw_code_slot *slot = pw_code_slot_of(&pw_sampler->stacks, code);
    if (!slot->held && pw_attached()) {
        Py_INCREF(code); /* so that its address keeps its meaning */
        slot->held = 1;
    }
    if (slot->code == NULL) {
        slot->code = code;
        slot->id = ++pw_sampler->stacks.code_count;
        uint8_t file_space[4096], name_space[1024];
        uint32_t head[4] = {(uint32_t)code->co_firstlineno, 0, 0, 0};
        pw_piece pieces[4] = {
            {head, sizeof(head)},
            text_piece(code->co_filename, file_space, sizeof(file_space), &head[1]),
            text_piece(code->co_qualname, name_space, sizeof(name_space), &head[2]),
            {PyBytes_AS_STRING(code->co_linetable), (uint32_t)PyBytes_GET_SIZE(code->co_linetable)},
        };
        head[3] = pieces[3].count;
        pw_log_text(&pw_sampler->log, PW_TEXT_CODE, pieces, 4);
    }
    return slot->id;
}

uint32_t
pw_current_stack(void)
{
    pw_frame frames[PW_STACK_MAX];
    int truncated = 0;
    int depth = pw_self.stackless ? 0 : pw_stack_walk(frames, &truncated);
    if (depth == 0) {
        return 0;
    }
    pw_sampler->totals.truncated_stacks += (uint64_t)truncated;
    uint64_t hash = (uint64_t)depth;
    for (int i = 0; i < depth; i++) {
        hash = pw_mix(pw_mix(hash, (uintptr_t)frames[i].code), frames[i].instruction_bytes);
    }
    pw_stack_slot *stack = pw_stack_slot_of(&pw_sampler->stacks, hash);
    if (stack->id != 0) {
        return stack->id;
    }
    if (pw_sampler->stacks.node_count + PW_STACK_MAX > PW_NODE_MAX ||
        pw_sampler->stacks.stack_count > PW_NODE_MAX) {
        pw_sampler->totals.unknown_stacks++;
        return PW_STACK_OVERFLOW;
    }
    uint32_t parent = 0;
    for (int i = depth - 1; i >= 0; i--) {
        pw_node_slot *node = pw_node_slot_of(&pw_sampler->stacks, parent, frames[i].code,
                                             frames[i].instruction_bytes);
        if (node->id == 0) {
            node->code = frames[i].code;
            node->parent = parent;
            node->instruction_bytes = frames[i].instruction_bytes;
            node->id = ++pw_sampler->stacks.node_count;
            uint32_t code = code_id(frames[i].code);
            pw_node record = {parent, code, frames[i].instruction_bytes};
            pw_log_put(&pw_sampler->log, PW_LOG_NODES, &record, sizeof(record));
        }
        parent = node->id;
    }
    stack->hash = hash;
    stack->id = parent;
    pw_sampler->stacks.stack_count++;
    return parent;
}

uint32_t
pw_type_id(uintptr_t type, const char *name, unsigned long flags)
{
    pw_type_slot *slot = pw_type_slot_of(pw_sampler->types, type);
    if (slot->type == 0) {
        if (pw_sampler->types->count >= PW_TYPE_SLOTS / 4 * 3) {
            return 0;
        }
        slot->type = type;
        slot->id = ++pw_sampler->types->count;
        uint32_t low_flags = (uint32_t)flags;
        pw_piece pieces[2] = {{&low_flags, sizeof(low_flags)}, {name, (uint32_t)strlen(name)}};
        pw_log_text(&pw_sampler->log, PW_TEXT_TYPE, pieces, 2);
    }
    return slot->id;
}

uint32_t
pw_block_type(const pw_sample *sample)
{
    static const uint32_t type_words[] = {1, 3, 5}; /* no prefix; GC or preheader; both */
    if (sample->domain != PW_DOMAIN_OBJECT && sample->domain != PW_DOMAIN_RAW &&
        sample->domain != PW_DOMAIN_CONSTRUCTION) {
        return 0;
    }
    uintptr_t block = sample->address & ~(uintptr_t)PW_CONSTRUCTION_TAG;
    for (size_t i = 0; i < sizeof(type_words) / sizeof(type_words[0]); i++) {
        char name[PW_TYPE_NAME_BYTES];
        unsigned long flags;
        if ((type_words[i] + 1) * sizeof(uintptr_t) > sample->bytes) {
            break;
        }
        uintptr_t word = ((const uintptr_t *)block)[type_words[i]];
        if (word == 0) {
            continue;
        }
        pw_type_slot *slot = pw_type_slot_of(pw_sampler->types, word);
        if (slot->type != 0) {
            return slot->id;
        }
        if (pw_read_type(word, name, &flags)) {
            return pw_type_id(word, name, flags);
        }
    }
    return 0;
}
