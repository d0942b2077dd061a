/* counting.c: hooks that count allocations and frees of the obj, mem and raw domains, and nothing
 * else: what no profiler that hooks them can be cheaper than. For benchmarks/overhead.py.
 *
 * Counters are shared and not locked: exact under the GIL; outside of it a count may be lost. */
#include <Python.h>
#include <stdint.h>

typedef struct {
    PyMemAllocatorEx original;
    uint64_t allocations, frees;
} domain;

static domain domains[3];

/* Not an atomic addition, which would lock the bus: a load and a store. */
static inline void
count(uint64_t *counter)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

#define DEFINE_HOOKS(name, index)                                                                  \
    static void *name##_malloc(void *ctx, size_t bytes)                                            \
    {                                                                                              \
        count(&domains[index].allocations);                                                        \
        return domains[index].original.malloc(ctx, bytes);                                         \
    }                                                                                              \
    static void *name##_calloc(void *ctx, size_t n, size_t bytes)                                  \
    {                                                                                              \
        count(&domains[index].allocations);                                                        \
        return domains[index].original.calloc(ctx, n, bytes);                                      \
    }                                                                                              \
    static void *name##_realloc(void *ctx, void *block, size_t bytes)                              \
    {                                                                                              \
        count(&domains[index].allocations);                                                        \
        return domains[index].original.realloc(ctx, block, bytes);                                 \
    }                                                                                              \
    static void name##_free(void *ctx, void *block)                                                \
    {                                                                                              \
        count(&domains[index].frees);                                                              \
        domains[index].original.free(ctx, block);                                                  \
    }

DEFINE_HOOKS(object, 0)
DEFINE_HOOKS(memory, 1)
DEFINE_HOOKS(raw, 2)

static PyObject *
start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    static const PyMemAllocatorDomain names[3] = {PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM,
                                                  PYMEM_DOMAIN_RAW};
    static const PyMemAllocatorEx hooks[3] = {
        {NULL, object_malloc, object_calloc, object_realloc, object_free},
        {NULL, memory_malloc, memory_calloc, memory_realloc, memory_free},
        {NULL, raw_malloc, raw_calloc, raw_realloc, raw_free},
    };
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator(names[i], &domains[i].original);
        PyMemAllocatorEx ours = hooks[i];
        ours.ctx = domains[i].original.ctx;
        PyMem_SetAllocator(names[i], &ours);
    }
    Py_RETURN_NONE;
}

static PyObject *
counts(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("{s(KK)s(KK)s(KK)}", "obj", domains[0].allocations, domains[0].frees,
                         "mem", domains[1].allocations, domains[1].frees, "raw",
                         domains[2].allocations, domains[2].frees);
}

static PyMethodDef methods[] = {
    {"start", start, METH_NOARGS, "Count from now on, to the end of the process."},
    {"counts", counts, METH_NOARGS, "(allocations, frees) so far, by domain."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "counting", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC
PyInit_counting(void)
{
    return PyModule_Create(&definition);
}
