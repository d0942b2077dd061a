/* pystack.h: the Python stack of this thread, read straight from the interpreter's structures.
 * No call into CPython, no reference taken, nothing allocated: safe inside an allocator hook. */
#ifndef PW_PYSTACK_H
#define PW_PYSTACK_H

#include "compat.h"

#define PW_STACK_MAX 64

typedef struct {
    PyCodeObject *code;
    uint32_t instruction_bytes; /* offset of the instruction in co_code, as f_lasti */
} pw_frame;

/* Innermost first; at most PW_STACK_MAX. *truncated is set when there were more. The thread
 * need not hold the GIL: a native library that released it still stands in its caller's frame. */
int pw_stack_walk(pw_frame *frames, int *truncated);

#endif
