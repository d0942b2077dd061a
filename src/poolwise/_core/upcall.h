/* upcall.h: the few things the core asks of Python, all off the hot paths. */
#ifndef PW_UPCALL_H
#define PW_UPCALL_H

#include "compat.h"

static inline PyObject *
pw_python_attribute(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *attribute = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return attribute;
}

/* Raises poolwise.errors.<name>; always NULL. */
__attribute__((unused)) static PyObject *
pw_raise(const char *name, const char *format, ...)
{
    PyObject *error = pw_python_attribute("poolwise.errors", name);
    if (error == NULL) {
        return NULL;
    }
    va_list args;
    va_start(args, format);
    PyErr_FormatV(error, format, args);
    va_end(args);
    Py_DECREF(error);
    return NULL;
}

/* Has the timer trim this pool every `seconds`; 0, or -1 with an exception set. */
static inline int
pw_watch(PyObject *pool, double seconds)
{
    if (PW_IS_FINALIZING()) {
        return 0; /* nothing is left to trim for, and no thread can start */
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        /* CPython 3.11 aborts if a sub-interpreter ends with a thread, and later ones may forbid
         * it a daemon. */
        return PyErr_WarnEx(PyExc_RuntimeWarning,
                            "pools in a sub-interpreter are not trimmed by the timer: call trim() "
                            "yourself, or give trim_seconds=None",
                            1);
    }
    PyObject *watch = pw_python_attribute("poolwise.pools.trimmer", "watch");
    if (watch == NULL) {
        return -1;
    }
    PyObject *result = PyObject_CallFunction(watch, "Od", pool, seconds);
    Py_DECREF(watch);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* <module>.<name>(**values), and the reference to `values` is gone; NULL for NULL. */
static inline PyObject *
pw_report(const char *module, const char *name, PyObject *values)
{
    if (values == NULL) {
        return NULL;
    }
    PyObject *result = NULL, *none = PyTuple_New(0);
    PyObject *type = pw_python_attribute(module, name);
    if (none != NULL && type != NULL) {
        result = PyObject_Call(type, none, values);
    }
    Py_XDECREF(type);
    Py_XDECREF(none);
    Py_DECREF(values);
    return result;
}

/* An argument that is None or a number of seconds above 0, as seconds; None is 0. */
static inline int
pw_seconds_argument(PyObject *value, const char *name, double *seconds)
{
    *seconds = 0.0;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    *seconds = PyFloat_AsDouble(value);
    if (*seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(*seconds > 0.0 && *seconds < 1e9)) {
        pw_raise("UsageError", "%s=%R is no period: give seconds above 0, or None for no timer",
                 name, value);
        return -1;
    }
    return 0;
}

/* An argument that is a name or None; always a str (a copy where it is of a subclass). */
static inline PyObject *
pw_name_argument(PyObject *value, const char *standard)
{
    if (value == NULL || value == Py_None) {
        return PyUnicode_FromString(standard);
    }
    if (!PyUnicode_Check(value)) {
        return pw_raise("UsageTypeError", "name=%R is not a str: give the pool a str, or no name",
                        value);
    }
    return PyUnicode_FromObject(value);
}

#endif
