/* objects.c: counts the objects that come from the interpreter's free lists, by type.
 *
 * A tuple, a float, a list or a dict that dies often waits in a list of its type for the next of
 * its kind, and neither its death nor its next birth reaches an allocator: what hooks see there is
 * the life of blocks, not of objects. Only the reference tracer (3.13 and newer; one for the
 * process, which tracemalloc takes, too) is told of each creation. One that is not of the block
 * which this thread's last object allocation gave comes from a list.
 *
 * Every creation of an object costs a call: for short runs, and only when asked for. */
#include "sampler_state.h"

#define OBJECT_SLOTS 8192u

typedef struct {
    uintptr_t type; /* 0: empty; slot 0: what had no room */
    uint64_t created, reused;
    uint64_t written; /* `created` at the last flush */
} object_slot;

/* Guard: the main interpreter's GIL; flushes without it may read a count that is about to rise. The
 * kernel wipes them in the child of a fork. */
static struct {
    uint32_t used;
    object_slot slots[OBJECT_SLOTS];
} *counts;
static bool tracing, displaced;

#if PW_HAS_REFERENCE_TRACER

static PyInterpreterState *main_interpreter;

static object_slot *
slot_of(PyTypeObject *type)
{
    uint32_t i = (uint32_t)(((uintptr_t)type >> 4) * UINT32_C(2654435761)) % OBJECT_SLOTS;
    while (i == 0 || counts->slots[i].type != (uintptr_t)type) {
        if (i != 0 && counts->slots[i].type == 0) {
            if (counts->used >= OBJECT_SLOTS / 4 * 3) {
                return &counts->slots[0];
            }
            counts->used++;
            counts->slots[i].type = (uintptr_t)type;
            break;
        }
        i = (i + 1) % OBJECT_SLOTS;
    }
    return &counts->slots[i];
}

static int
trace(PyObject *object, PyRefTracerEvent event, void *Py_UNUSED(data))
{
    if (event == PyRefTracer_CREATE && pw_is_sampling() &&
        PyInterpreterState_Get() == main_interpreter) {
        PyTypeObject *type = Py_TYPE(object);
        object_slot *slot = slot_of(type);
        slot->created++;
        if ((char *)object - pw_object_prefix_bytes(type) == pw_self.fresh) {
            pw_self.fresh = NULL;
        } else {
            slot->reused++;
        }
    }
    return 0;
}

int
pw_objects_start(void)
{
    void *data;
    if (PyRefTracer_GetTracer(&data) != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "objects=True: another has the interpreter's one reference tracer, "
                        "tracemalloc most likely; stop it first, or leave objects out");
        return -1;
    }
    if (counts == NULL) {
        void *memory = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory == MAP_FAILED) {
            PyErr_NoMemory();
            return -1;
        }
        (void)madvise(memory, sizeof(*counts), MADV_WIPEONFORK);
        counts = memory;
    }
    memset(counts, 0, sizeof(*counts));
    displaced = false;
    main_interpreter = PyInterpreterState_Main();
    pw_hook_object_blocks();
    tracing = true;
    return PyRefTracer_SetTracer(trace, NULL);
}

void
pw_objects_stop(void)
{
    void *data;
    if (tracing && PyRefTracer_GetTracer(&data) == trace) {
        PyRefTracer_SetTracer(NULL, NULL);
    }
    tracing = false;
}

static bool
is_displaced(void)
{
    void *data;
    return pw_attached() && PyRefTracer_GetTracer(&data) != trace;
}

#else

int
pw_objects_start(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "objects=True needs the reference tracer of CPython 3.13 and newer; leave "
                    "objects out");
    return -1;
}

void
pw_objects_stop(void)
{
}

static bool
is_displaced(void)
{
    return false;
}

#endif

static void
put(uint32_t type, uint32_t event, uint64_t created, uint64_t reused)
{
    pw_objects record = {created, reused, type, event};
    pw_log_put(&pw_sampler->log, PW_LOG_OBJECTS, &record, sizeof(record));
}

void
pw_objects_write(uint64_t now_ns)
{
    if (!tracing) {
        return;
    }
    if (!displaced && is_displaced()) {
        displaced = true;
        put(0, PW_OBJECTS_LOST, now_ns, 0);
    }
    for (uint32_t i = 0; i < OBJECT_SLOTS; i++) {
        object_slot *slot = &counts->slots[i];
        char name[PW_TYPE_NAME_BYTES];
        unsigned long flags;
        if (slot->created == slot->written) {
            continue;
        }
        bool known = i != 0 && pw_read_type(slot->type, name, &flags);
        put(known ? pw_type_id(slot->type, name, flags) : 0, PW_OBJECTS_CREATED, slot->created,
            slot->reused);
        slot->written = slot->created;
    }
}
