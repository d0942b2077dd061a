/* constructions.c: times a sample of all class calls, C types included.
 *
 * What is dear about a compressor, a parser or a context is often native memory and work that no
 * allocator hook sees. Calling a class runs its metaclass's tp_call, nearly always `type`'s: we
 * stand in front of it. (Not seen: classes that CPython calls another way, which are the builtins
 * with a vectorcall of their own.)
 *
 * Each class has a sampling rate of its own, from how long its calls take: a sample may cost 1 % of
 * the calls it is taken from. So a dear call is timed nearly every time, and a cheap one rarely. */
#include "sampler.h"

#include "rng.h"
#include "stack_table.h"

#include <time.h>

#define CLASS_BITS 12
#define CLASS_SLOTS (1u << CLASS_BITS)
#define SAMPLE_NS 2000.0 /* what one sample costs, about */
#define COST_SHARE 0.01

/* Guard: the GIL, which every class call holds. */
typedef struct {
    PyObject *type; /* NULL: empty; only compared, never followed */
    int64_t calls_left;
    double rate; /* the mean gap under which calls_left was drawn */
    double mean_ns;
} class_slot;

static ternaryfunc original_call;
static class_slot classes[CLASS_SLOTS];
static uint32_t class_count;
static uint64_t clock_ns; /* what reading the clock twice says of nothing */

#define HASHED_ITEMS 32
#define HASHED_DEPTH 3
#define HASHED_TEXT 1024

static uint64_t hash_argument(PyObject *argument, uint64_t fresh, int depth);

static uint64_t
hash_items(PyObject *const *items, Py_ssize_t count, uint64_t fresh, int depth)
{
    uint64_t hash = (uint64_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        hash = pw_mix(hash, hash_argument(items[i], fresh, depth + 1));
    }
    return hash;
}

static uint64_t
hash_dict(PyObject *dict, uint64_t fresh, int depth)
{
    uint64_t hash = (uint64_t)PyDict_GET_SIZE(dict);
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &key, &value)) {
        hash = pw_mix(hash, hash_argument(key, fresh, depth + 1));
        hash = pw_mix(hash, hash_argument(value, fresh, depth + 1));
    }
    return hash;
}

/* A hash that is equal for equal constants, small containers of constants included. What cannot be
 * compared this way (large containers, buffers) is `fresh`, and so never repeats. Only exact
 * builtins are hashed: no Python code runs. */
static uint64_t
hash_argument(PyObject *argument, uint64_t fresh, int depth)
{
    if (argument == Py_None || PyType_Check(argument) || PyFunction_Check(argument) ||
        PyModule_Check(argument)) {
        return (uintptr_t)argument;
    }
    if ((PyUnicode_CheckExact(argument) && PyUnicode_GET_LENGTH(argument) > HASHED_TEXT) ||
        (PyBytes_CheckExact(argument) && PyBytes_GET_SIZE(argument) > HASHED_TEXT)) {
        return fresh; /* content to work on, not a setting */
    }
    if (PyUnicode_CheckExact(argument) || PyLong_CheckExact(argument) || PyBool_Check(argument) ||
        PyFloat_CheckExact(argument) || PyBytes_CheckExact(argument)) {
        return (uint64_t)PyObject_Hash(argument);
    }
    if (depth < HASHED_DEPTH && PyDict_CheckExact(argument) &&
        PyDict_GET_SIZE(argument) <= HASHED_ITEMS) {
        return hash_dict(argument, fresh, depth);
    }
    if (depth < HASHED_DEPTH && (PyTuple_CheckExact(argument) || PyList_CheckExact(argument)) &&
        PySequence_Fast_GET_SIZE(argument) <= HASHED_ITEMS) {
        return hash_items(PySequence_Fast_ITEMS(argument), PySequence_Fast_GET_SIZE(argument),
                          fresh, depth);
    }
    if (PyList_Check(argument) || PyDict_Check(argument) || PyAnySet_Check(argument) ||
        PyTuple_Check(argument) || PyObject_CheckBuffer(argument)) {
        return fresh;
    }
    return (uintptr_t)argument;
}

static uint64_t
hash_arguments(PyObject *args, PyObject *kwargs, uint64_t fresh)
{
    uint64_t hash = hash_items(&PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args), fresh, 0);
    return kwargs == NULL ? hash : pw_mix(hash, hash_dict(kwargs, fresh, 0));
}

/* NULL when there are too many classes. */
static inline class_slot *
slot_of(PyObject *type)
{
    uint32_t i =
        (uint32_t)(((uintptr_t)type >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - CLASS_BITS));
    while (classes[i].type != type) {
        if (classes[i].type == NULL) {
            if (class_count >= CLASS_SLOTS / 4 * 3) {
                return NULL;
            }
            class_count++;
            pw_keep_unspecialized((PyTypeObject *)type);
            classes[i] = (class_slot){.type = type, .calls_left = 1, .rate = 1};
            break;
        }
        i = (i + 1) & (CLASS_SLOTS - 1);
    }
    return &classes[i];
}

static PyObject *
timed_call(class_slot *slot, PyObject *type, PyObject *args, PyObject *kwargs)
{
    double weight = slot->rate;
    slot->calls_left = INT64_MAX; /* a call of the same class inside this one is not timed */
    uint64_t arguments = hash_arguments(args, kwargs, pw_clock_ns());
    /* Real time is the sharper clock, but runs on while the thread waits for a processor. */
    uint64_t start_cpu_ns = pw_cpu_clock_ns();
    uint64_t start_ns = pw_clock_ns();
    PyObject *object = original_call(type, args, kwargs);
    uint64_t duration_ns = pw_clock_ns() - start_ns;
    uint64_t cpu_ns = pw_cpu_clock_ns() - start_cpu_ns;
    duration_ns = cpu_ns < duration_ns ? cpu_ns : duration_ns;
    duration_ns -= duration_ns < clock_ns ? duration_ns : clock_ns;
    /* Only a fresh object of just this class: not a singleton, not what __new__ made instead. */
    if (object != NULL && Py_TYPE(object) == (PyTypeObject *)type && Py_REFCNT(object) == 1) {
        pw_sample_construction(object, (PyTypeObject *)type, arguments, weight, start_ns,
                               duration_ns);
    }
    double share = slot->mean_ns == 0 ? 1 : 1.0 / 16;
    slot->mean_ns += ((double)duration_ns - slot->mean_ns) * share;
    slot->rate = fmax(1, pw_construction_factor() * SAMPLE_NS / (COST_SHARE * slot->mean_ns + 1));
    /* Geometric with p = 1 / rate. */
    slot->calls_left =
        slot->rate <= 1 ? 1
                        : 1 + (int64_t)(log(pw_rng_unit(&pw_self.random)) / log1p(-1 / slot->rate));
    return object;
}

static PyObject *
call_hook(PyObject *type, PyObject *args, PyObject *kwargs)
{
    class_slot *slot = type == (PyObject *)&PyType_Type ? NULL : slot_of(type);
    if (PW_LIKELY(slot == NULL || --slot->calls_left > 0) || !pw_sampling_constructions()) {
        return original_call(type, args, kwargs);
    }
    return timed_call(slot, type, args, kwargs);
}

/* `metaclasses`: the subclasses of `type` that exist already; later ones inherit the hook. */
int
pw_constructions_install(PyObject *metaclasses)
{
    PyObject *given = PySequence_Fast(metaclasses, "the metaclasses must be a sequence");
    if (given == NULL) {
        return -1;
    }
    if (original_call == NULL) {
        original_call = PyType_Type.tp_call;
        clock_ns = UINT64_MAX;
        for (int i = 0; i < 16; i++) {
            uint64_t start_ns = pw_clock_ns();
            uint64_t nothing_ns = pw_clock_ns() - start_ns;
            clock_ns = nothing_ns < clock_ns ? nothing_ns : clock_ns;
        }
    }
    PyType_Type.tp_call = call_hook;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(given); i++) {
        PyTypeObject *metaclass = (PyTypeObject *)PySequence_Fast_GET_ITEM(given, i);
        if (PyType_Check(metaclass) && metaclass->tp_call == original_call) {
            metaclass->tp_call = call_hook;
        }
    }
    Py_DECREF(given);
    return 0;
}
