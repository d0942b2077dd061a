/* sampler.c */
#include "module.h"

int
pw_add_sampler(PyObject *Py_UNUSED(module))
{
    return 0;
}
