/* typeprobe.h: the type of a block in the object domain, from its header words.
 *
 * Where the object starts inside its block depends on the type (GC header, managed dictionary), so
 * three places are tried. A word is believed only if it is a known type, or if it points to
 * something whose own type is `type` or a subclass of it. Every look goes through the kernel
 * (process_vm_readv on ourselves), so that a stale word can name a wrong type but never crash. */
#ifndef PW_TYPEPROBE_H
#define PW_TYPEPROBE_H

#include "compat.h"

#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PW_TYPE_BITS 13
#define PW_TYPE_SLOTS (1u << PW_TYPE_BITS)
#define PW_TYPE_NAME_BYTES 96

typedef struct {
    uintptr_t type; /* 0: empty */
    uint32_t id;
} pw_type_slot;

typedef struct {
    pw_type_slot slots[PW_TYPE_SLOTS];
    uint32_t count;
} pw_type_table;

static inline int
pw_safe_read(void *to, uintptr_t from, size_t bytes)
{
    struct iovec local = {to, bytes}, remote = {(void *)from, bytes};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)bytes ? 0 : -1;
}

static inline pw_type_slot *
pw_type_slot_of(pw_type_table *table, uintptr_t type)
{
    uint32_t i = (uint32_t)((type >> 4) * UINT32_C(2654435761)) & (PW_TYPE_SLOTS - 1);
    while (table->slots[i].type != 0 && table->slots[i].type != type) {
        i = (i + 1) & (PW_TYPE_SLOTS - 1);
    }
    return &table->slots[i];
}

/* Is there a type object at this address? If so fills `name` (cut if longer) and `flags`. */
static inline int
pw_read_type(uintptr_t candidate, char *name, unsigned long *flags)
{
    PyTypeObject type, meta;
    if (candidate < 65536 || candidate % sizeof(void *) != 0 ||
        pw_safe_read(&type, candidate, sizeof(type)) < 0) {
        return 0;
    }
    PyTypeObject *meta_address = Py_TYPE((PyObject *)&type);
    if (meta_address != &PyType_Type) {
        if ((uintptr_t)meta_address < 65536 ||
            pw_safe_read(&meta, (uintptr_t)meta_address, sizeof(meta)) < 0 ||
            Py_TYPE((PyObject *)&meta) != &PyType_Type ||
            !(meta.tp_flags & Py_TPFLAGS_TYPE_SUBCLASS)) {
            return 0;
        }
    }
    *flags = type.tp_flags;
    memset(name, 0, PW_TYPE_NAME_BYTES);
    for (size_t bytes = PW_TYPE_NAME_BYTES - 1; bytes >= 8; bytes /= 2) {
        if (pw_safe_read(name, (uintptr_t)type.tp_name, bytes) == 0) {
            return name[0] != 0;
        }
    }
    return 0;
}

#endif
