"""Inside a process that is attached to: this file's text, with a call of `begin` behind it.

`sys.remote_exec` runs it in the main thread, between two instructions of the program: it may hold
any lock and be in the middle of any import. So a thread of our own does everything, and stays until
the other end of its connection is closed: by `Attached.stop`, or by the kernel when the command
that attached is gone. Nothing is started before that end has sent its request: a call that was
left pending finds nobody there and does nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def begin(address: str) -> None:
    """Start the thread that connects to the abstract socket `address`."""
    import _imp
    from _frozen_importlib import ModuleSpec

    # Of a module made afresh: gevent and eventlet put greenlets in the place of threads.
    thread: Any = _imp.create_builtin(ModuleSpec("_thread", None))
    _imp.exec_builtin(thread)
    thread.start_new_thread(serve, (address,))


def serve(address: str) -> None:
    """Sample as the request says until the connection ends."""
    import _socket
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the program's
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(None)
        connection.connect(address)
        request = b""
        while not request.endswith(b"\n"):
            part = connection.recv(65536)
            if not part:
                return
            request += part
        answer = sample(eval(request, {}), connection)
        connection.send(answer.encode() + b"\n", _socket.MSG_NOSIGNAL)
    except OSError:
        pass  # nobody is there any more
    finally:
        connection.close()


def sample(request: "dict[str, Any]", connection: "Any") -> str:
    """Start, wait until the other end closes, stop. Returns the last word: "ended", or why not."""
    import _socket

    try:
        child = profiler(request)
        child.start(request["options"])
    except Exception as error:
        return said(error)
    try:
        connection.send(b"sampling\n", _socket.MSG_NOSIGNAL)
        while connection.recv(4096):
            pass
    except OSError:
        pass  # gone
    try:
        child.stop()
    except Exception as error:
        return said(error)
    return "ended"


def profiler(request: "dict[str, Any]") -> "Any":
    """`poolwise.profile.child`: the program's own poolwise if it has imported it, or else ours."""
    import sys

    if "poolwise" in sys.modules:
        import poolwise  # waits until it is whole

        if poolwise.__version__ != request["version"]:
            raise RuntimeError(f"it uses poolwise {poolwise.__version__}: attach with that version")
    else:
        from importlib.util import module_from_spec, spec_from_file_location

        spec: Any = spec_from_file_location(
            "poolwise", request["file"], submodule_search_locations=request["paths"]
        )
        module = sys.modules["poolwise"] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules["poolwise"]
            raise
    from poolwise.profile import child

    if child.recording_into():
        raise RuntimeError(
            f"it is being sampled already, into {child.recording_into()}: end that recording first"
        )
    return child


def said(error: Exception) -> str:
    """In one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"it cannot write {error.filename} ({error.strerror}): name a directory it can"
    return " ".join(str(error).split()) or type(error).__name__
