/* constructions.c: times a sample of all class calls, C types included.
 *
 * What is dear about a compressor, a parser or a context is often native memory and work that no
 * allocator hook sees. Calling a class runs its metaclass's tp_call, nearly always `type`'s: we
 * stand in front of it. (Not seen: classes that CPython calls another way, which are the builtins
 * with a vectorcall of their own, and from 3.13 on simple Python classes once specialised.) */
#include "sampler.h"

#include "stack_table.h"

#include <time.h>

static ternaryfunc original_call;

/* A hash that is equal for equal constants. Whatever may have changed inside since (containers,
 * buffers) never repeats. */
static uint64_t
hash_argument(PyObject *argument, uint64_t fresh, int depth)
{
    if (argument == Py_None || PyType_Check(argument) || PyFunction_Check(argument) ||
        PyModule_Check(argument)) {
        return (uintptr_t)argument;
    }
    if (PyUnicode_CheckExact(argument) || PyLong_CheckExact(argument) ||
        PyBool_Check(argument) || PyFloat_CheckExact(argument) || PyBytes_CheckExact(argument)) {
        return (uint64_t)PyObject_Hash(argument); /* exact builtins: cannot fail, runs no Python */
    }
    if (PyTuple_CheckExact(argument) && depth < 3) {
        uint64_t hash = 0x345678;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(argument); i++) {
            hash = pw_mix(hash, hash_argument(PyTuple_GET_ITEM(argument, i), fresh, depth + 1));
        }
        return hash;
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
    uint64_t hash = hash_argument(args, fresh, 0);
    PyObject *name, *value;
    Py_ssize_t position = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &position, &name, &value)) {
        hash = pw_mix(hash, pw_mix(hash_argument(name, fresh, 1), hash_argument(value, fresh, 1)));
    }
    return hash;
}

static PyObject *
timed_call(PyObject *type, PyObject *args, PyObject *kwargs)
{
    double weight = pw_self.call_rate;
    int sampled = pw_self.calls_left <= 0 && weight > 0;
    if (!pw_next_construction() || !sampled || type == (PyObject *)&PyType_Type) {
        return original_call(type, args, kwargs);
    }
    uint64_t start_ns = pw_clock_ns();
    uint64_t arguments = hash_arguments(args, kwargs, start_ns);
    PyObject *object = original_call(type, args, kwargs);
    uint64_t end_ns = pw_clock_ns();
    /* Only a fresh object of just this class: not a singleton, not what __new__ made instead. */
    if (object != NULL && Py_TYPE(object) == (PyTypeObject *)type && Py_REFCNT(object) == 1) {
        pw_sample_construction(object, (PyTypeObject *)type, arguments, weight, start_ns,
                               end_ns - start_ns);
    }
    return object;
}

static PyObject *
call_hook(PyObject *type, PyObject *args, PyObject *kwargs)
{
    if (PW_LIKELY(--pw_self.calls_left > 0)) {
        return original_call(type, args, kwargs);
    }
    return timed_call(type, args, kwargs);
}

/* `metaclasses`: the subclasses of `type` that exist already; later ones inherit the hook. */
int
pw_constructions_install(PyObject *metaclasses)
{
    PyObject *classes = PySequence_Fast(metaclasses, "the metaclasses must be a sequence");
    if (classes == NULL) {
        return -1;
    }
    if (original_call == NULL) {
        original_call = PyType_Type.tp_call;
    }
    PyType_Type.tp_call = call_hook;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(classes); i++) {
        PyTypeObject *metaclass = (PyTypeObject *)PySequence_Fast_GET_ITEM(classes, i);
        if (PyType_Check(metaclass) && metaclass->tp_call == original_call) {
            metaclass->tp_call = call_hook;
        }
    }
    Py_DECREF(classes);
    return 0;
}
