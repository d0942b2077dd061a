/* pool.c */
#include "module.h"

int
pw_add_pool(PyObject *Py_UNUSED(module))
{
    return 0;
}
