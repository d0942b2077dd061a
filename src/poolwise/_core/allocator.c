/* allocator.c: what the C library's allocator can be told and asked (glibc; elsewhere: nothing). */
#include "module.h"

#include <malloc.h>

#ifdef __GLIBC__

static PyObject *
allocator_mallopt(PyObject *Py_UNUSED(module), PyObject *args)
{
    int param, value;
    if (!PyArg_ParseTuple(args, "ii:mallopt", &param, &value)) {
        return NULL;
    }
    return PyBool_FromLong(mallopt(param, value));
}

static PyObject *
allocator_malloc_trim(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(malloc_trim(0));
}

static PyObject *
allocator_mallinfo(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    struct mallinfo2 info = mallinfo2();
    return Py_BuildValue("{s:n,s:n,s:n,s:n,s:n}", "arena_bytes", (Py_ssize_t)info.arena,
                         "mmapped_bytes", (Py_ssize_t)info.hblkhd, "used_bytes",
                         (Py_ssize_t)info.uordblks, "free_bytes", (Py_ssize_t)info.fordblks,
                         "top_bytes", (Py_ssize_t)info.keepcost);
}

static PyMethodDef allocator_methods[] = {
    {"mallopt", allocator_mallopt, METH_VARARGS,
     "mallopt(param, value, /)\n--\n\nSet one glibc malloc parameter; False if glibc refuses it."},
    {"malloc_trim", allocator_malloc_trim, METH_NOARGS,
     "malloc_trim()\n--\n\nGive free heap memory back to the kernel; True if any was."},
    {"mallinfo", allocator_mallinfo, METH_NOARGS,
     "mallinfo()\n--\n\nglibc's own account of its heaps, in bytes."},
    {NULL, NULL, 0, NULL},
};

#else

static PyMethodDef allocator_methods[] = {{NULL, NULL, 0, NULL}};

#endif

int
pw_add_allocator(PyObject *module)
{
    return PyModule_AddFunctions(module, allocator_methods);
}
