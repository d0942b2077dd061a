/* module.h: the extension's state, and the one function by which each capability joins it. */
#ifndef PW_MODULE_H
#define PW_MODULE_H

#include "compat.h"

#include "local.h"

/* The period of the timer trim unless told otherwise; poolwise.pools.trimmer holds the reason. */
#define PW_TRIM_SECONDS 60.0

typedef struct {
    PyTypeObject *pool_type;
    PyTypeObject *lease_type;
    PyTypeObject *buffer_pool_type;
    PyTypeObject *buffer_type;
    PyTypeObject *scope_type;
    PyObject *scope_variable; /* a ContextVar: the innermost scope */
} pw_state;

extern struct PyModuleDef pw_module_def;

static inline pw_state *
pw_state_of(PyObject *module)
{
    return (pw_state *)PyModule_GetState(module);
}

/* Each returns 0, or -1 with an exception set. */
int pw_add_pool(PyObject *module);
int pw_add_lease(PyObject *module);
int pw_add_buffer(PyObject *module);
int pw_add_scope(PyObject *module);
int pw_add_sampler(PyObject *module);
int pw_add_allocator(PyObject *module);
int pw_add_arrow(PyObject *module);

#endif
