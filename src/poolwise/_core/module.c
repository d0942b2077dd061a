/* module.c: makes the extension module out of its capabilities. */
#include "module.h"

static int
module_exec(PyObject *module)
{
    if (pw_add_pool(module) < 0 || pw_add_lease(module) < 0 || pw_add_buffer(module) < 0 ||
        pw_add_scope(module) < 0 || pw_add_sampler(module) < 0 || pw_add_allocator(module) < 0 ||
        pw_add_arrow(module) < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    pw_state *state = pw_state_of(module);
    Py_VISIT(state->pool_type);
    Py_VISIT(state->lease_type);
    Py_VISIT(state->buffer_pool_type);
    Py_VISIT(state->buffer_type);
    Py_VISIT(state->scope_type);
    Py_VISIT(state->scope_variable);
    return 0;
}

static int
module_clear(PyObject *module)
{
    pw_state *state = pw_state_of(module);
    Py_CLEAR(state->pool_type);
    Py_CLEAR(state->lease_type);
    Py_CLEAR(state->buffer_pool_type);
    Py_CLEAR(state->buffer_type);
    Py_CLEAR(state->scope_type);
    Py_CLEAR(state->scope_variable);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    PW_MOD_INTERPRETERS_SLOT PW_MOD_GIL_SLOT{0, NULL},
};

struct PyModuleDef pw_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "poolwise._core",
    .m_doc = "The C core of poolwise: pools, buffers, the sampler. Internal.",
    .m_size = sizeof(pw_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&pw_module_def);
}
