/* buffer.c */
#include "module.h"

int
pw_add_buffer(PyObject *Py_UNUSED(module))
{
    return 0;
}
