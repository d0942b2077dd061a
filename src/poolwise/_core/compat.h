/* compat.h: every difference between CPython versions, so that none reaches the logic. */
#ifndef PW_COMPAT_H
#define PW_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030b0000
#error "poolwise needs CPython 3.11 or newer"
#endif

#ifndef Py_MOD_GIL_NOT_USED
#define PW_MOD_GIL_SLOT
#else
#define PW_MOD_GIL_SLOT {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif

#ifdef Py_mod_multiple_interpreters
#define PW_MOD_INTERPRETERS_SLOT                                                                   \
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#else
#define PW_MOD_INTERPRETERS_SLOT
#endif

#endif
