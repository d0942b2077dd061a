"""A user's program, run as its own in a child process."""

from poolwise.program.launch import (
    Instructions,
    Outcome,
    Program,
    exit_like,
    replace_self,
    run_child,
)

__all__ = ["Instructions", "Outcome", "Program", "exit_like", "replace_self", "run_child"]
