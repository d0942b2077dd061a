/* pystack.c: the frame layouts of the CPython versions; the only file that sees them. */
#define Py_BUILD_CORE_MODULE 1
#include "pystack.h"

#if PY_VERSION_HEX >= 0x030e0000
#include "internal/pycore_interpframe.h"
#else
#include "internal/pycore_frame.h"
#endif

#if PY_VERSION_HEX >= 0x030e0000
#define FRAME_CODE(frame) PyStackRef_AsPyObjectBorrow((frame)->f_executable)
#elif PY_VERSION_HEX >= 0x030d0000
#define FRAME_CODE(frame) ((frame)->f_executable)
#else
#define FRAME_CODE(frame) ((PyObject *)(frame)->f_code)
#endif

#if PY_VERSION_HEX >= 0x030d0000
#define FIRST_FRAME(tstate) ((tstate)->current_frame)
#else
#define FIRST_FRAME(tstate) ((tstate)->cframe->current_frame)
#endif

int
pw_stack_walk(pw_frame *frames, int *truncated)
{
    /* This thread's own state, attached or not: its frames change by its own hand only. */
    PyThreadState *tstate = pw_own_thread_state();
    *truncated = 0;
    if (tstate == NULL) {
        return 0;
    }
    int depth = 0;
    for (_PyInterpreterFrame *frame = FIRST_FRAME(tstate); frame != NULL; frame = frame->previous) {
        PyObject *code = FRAME_CODE(frame);
        /* Shims on the C stack have no code of their own (None from 3.13 on). */
        if (code == NULL || Py_TYPE(code) != &PyCode_Type || _PyFrame_IsIncomplete(frame)) {
            continue;
        }
        if (depth == PW_STACK_MAX) {
            *truncated = 1;
            break;
        }
        frames[depth].code = (PyCodeObject *)code;
        frames[depth].instruction_bytes =
            (uint32_t)_PyInterpreterFrame_LASTI(frame) * (uint32_t)sizeof(_Py_CODEUNIT);
        depth++;
    }
    return depth;
}
