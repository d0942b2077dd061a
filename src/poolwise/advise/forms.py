"""The forms that write into memory you already have, for the calls that make fresh memory.

`preallocate` is only advice if it says what to write. Each entry names a call by its last word and,
where that is ambiguous, by what it is called on; and gives the form that writes into `buf`.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

_FILE = "a file opened with buffering=0 or 'rb'"

# Calls of numpy: the same words elsewhere (`dict.copy`, `random.random`) are something else.
_ARRAY_CALLS = frozenset({
    "fromfile", "empty", "empty_like", "zeros", "zeros_like", "ones", "ones_like", "full",
    "arange", "copy", "astype", "concatenate", "stack", "random", "standard_normal", "where",
})  # fmt: skip

# Last word of the call: (code with {receiver} and {args}, how `buf` is made before the loop).
_CALLS: dict[str, tuple[str, str]] = {
    # files, sockets, pipes
    "read": ("n = {receiver}.readinto(buf)", "buf = memoryview(bytearray({args}))"),
    "read1": ("n = {receiver}.readinto1(buf)", "buf = memoryview(bytearray({args}))"),
    "read_bytes": (
        "with {receiver}.open('rb', buffering=0) as file: n = file.readinto(buf)",
        "buf = memoryview(bytearray(LARGEST))",
    ),
    "recv": ("n = {receiver}.recv_into(buf)", "buf = memoryview(bytearray({args}))"),
    "recvfrom": ("n, peer = {receiver}.recvfrom_into(buf)", "buf = memoryview(bytearray({args}))"),
    "recvmsg": ("n, *_ = {receiver}.recvmsg_into([buf])", "buf = memoryview(bytearray({args}))"),
    "pread": ("n = os.preadv({arg0}, [buf], {arg2})", "buf = memoryview(bytearray({arg1}))"),
    "fromfile": ("file.readinto(buf)", "buf = np.empty(COUNT, dtype)"),
    # bytes from pieces
    "pack": ("{receiver}.pack_into({args_into})", "buf = bytearray({packed_size})"),
    "join": (
        "for part in {args}: buf[at:at + len(part)] = part; at += len(part)",
        "buf = memoryview(bytearray(LARGEST))",
    ),
    "tobytes": ("buf[:] = memoryview({receiver}).cast('B')", "buf = bytearray(SIZE)"),
    "bytearray": ("buf", "buf = memoryview(bytearray({args}))"),
    "create_string_buffer": ("buf", "buf = ctypes.create_string_buffer({args})"),
    # numpy: new arrays
    "empty": ("buf", "buf = np.empty({args})"),
    "empty_like": ("buf", "buf = np.empty_like({args})"),
    "zeros": ("buf.fill(0)", "buf = np.zeros({args})"),
    "zeros_like": ("buf.fill(0)", "buf = np.zeros_like({args})"),
    "ones": ("buf.fill(1)", "buf = np.ones({args})"),
    "ones_like": ("buf.fill(1)", "buf = np.ones_like({args})"),
    "full": ("buf.fill(VALUE)", "buf = np.full({args})"),
    "arange": ("buf", "buf = np.arange({args})"),
    "copy": ("np.copyto(buf, {receiver})", "buf = np.empty_like({receiver})"),
    "astype": ("np.copyto(buf, {receiver}, casting='unsafe')", "buf = np.empty(SHAPE, {args})"),
    "concatenate": ("np.concatenate({args}, out=buf)", "buf = np.empty(SHAPE, DTYPE)"),
    "stack": ("np.stack({args}, out=buf)", "buf = np.empty(SHAPE, DTYPE)"),
    "random": ("{receiver}.random(out=buf)", "buf = np.empty({args})"),
    "standard_normal": ("{receiver}.standard_normal(out=buf)", "buf = np.empty({args})"),
    "where": ("np.copyto(buf, A); np.copyto(buf, B, where=~MASK)", "buf = np.empty(SHAPE, DTYPE)"),
}  # fmt: skip

# numpy calls that take out=.
# fmt: off
_OUT = frozenset({
    "abs", "absolute", "add", "all", "amax", "amin", "any", "arccos", "arcsin", "arctan",
    "arctan2", "argmax", "argmin", "around", "cbrt", "ceil", "choose", "clip", "compress",
    "conj", "convolve", "cos", "cosh", "cross", "cumprod", "cumsum", "deg2rad", "diagonal",
    "divide", "dot", "einsum", "equal", "exp", "exp2", "expm1", "fft", "fft2", "fftn",
    "floor", "floor_divide", "fmax", "fmin", "greater", "hypot", "ifft", "ifft2", "inner",
    "irfft", "isfinite", "isnan", "left_shift", "less", "log", "log10", "log1p", "log2",
    "logaddexp", "logical_and", "logical_not", "logical_or", "matmul", "max", "maximum",
    "mean", "median", "min", "minimum", "mod", "multiply", "nanmax", "nanmean", "nanmin",
    "nansum", "negative", "not_equal", "outer", "percentile", "power", "prod", "ptp",
    "quantile", "rad2deg", "rfft", "rfft2", "rint", "round", "sign", "sin", "sinh", "sqrt",
    "square", "std", "subtract", "sum", "take", "tan", "tanh", "tensordot", "trace",
    "true_divide", "trunc", "var", "vecdot",
})
# fmt: on

# scipy.ndimage takes output=.
# fmt: off
_OUTPUT = frozenset({
    "affine_transform", "convolve1d", "correlate", "correlate1d", "gaussian_filter",
    "gaussian_filter1d", "gaussian_gradient_magnitude", "gaussian_laplace", "generic_filter",
    "geometric_transform", "grey_closing", "grey_dilation", "grey_erosion", "grey_opening",
    "laplace", "map_coordinates", "maximum_filter", "median_filter", "minimum_filter",
    "percentile_filter", "prewitt", "rank_filter", "rotate", "shift", "sobel",
    "spline_filter", "uniform_filter", "uniform_filter1d", "zoom",
})
# fmt: on

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide",
    ast.FloorDiv: "floor_divide", ast.Mod: "mod", ast.Pow: "power", ast.MatMult: "matmul",
    ast.BitAnd: "bitwise_and", ast.BitOr: "bitwise_or", ast.BitXor: "bitwise_xor",
    ast.LShift: "left_shift", ast.RShift: "right_shift", ast.USub: "negative",
    ast.Invert: "invert", ast.Gt: "greater", ast.Lt: "less", ast.GtE: "greater_equal",
    ast.LtE: "less_equal", ast.Eq: "equal", ast.NotEq: "not_equal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """What to write: once before the loop, and at the place."""

    before: str
    at: str

    def code(self) -> str:
        """Both lines."""
        return f"{self.before}  # once, before the loop\n{self.at}"


def form_of(expression: str, *, array: bool) -> Form | None:
    """The form of `expression` that writes into a buffer, or None if none is known.

    `array`: what it makes is a numpy array.

    >>> form_of("data * 2.0", array=True).at
    'np.multiply(data, 2.0, out=buf)'
    >>> form_of("sock.recv(65536)", array=False).at
    'n = sock.recv_into(buf)'
    """
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError:
        return None
    if array and isinstance(node, ast.BinOp | ast.UnaryOp | ast.Compare):
        return _operator(node)
    if not isinstance(node, ast.Call):
        return None
    name, receiver = _called(node)
    arguments = ", ".join(ast.unparse(argument) for argument in [*node.args, *node.keywords])
    if name in _CALLS and _is_meant(name, node, array):
        if name == "bytearray" and not is_size(node):
            return Form(
                "buf = memoryview(bytearray(LARGEST))",
                f"n = len({arguments}); buf[:n] = {arguments}",
            )
        at, before = _CALLS[name]
        packed = [ast.unparse(argument) for argument in node.args]
        into = ", ".join([*packed[:1], "buf", "0", *packed[1:]] if receiver == "struct"
                         else ["buf", "0", *packed])  # fmt: skip
        three = packed if len(packed) == 3 else ["FD", "SIZE", "OFFSET"]
        words = {
            "receiver": receiver or "file",
            "args": arguments,
            "args_into": into,
            "packed_size": f"struct.calcsize({packed[0]})"
            if receiver == "struct" and packed
            else f"{receiver}.size",
            **{f"arg{place}": argument for place, argument in enumerate(three)},
        }
        return Form(before.format(**words), at.format(**words))
    if array and (name in _OUT or name in _OUTPUT):
        option = "out" if name in _OUT else "output"
        function = ast.unparse(node.func)
        if function in vars(builtins):  # of these, only abs and round have a twin in numpy
            if function not in ("abs", "round"):
                return None
            function = f"np.{function}"
        joined = f"{arguments}, {option}=buf" if arguments else f"{option}=buf"
        return Form("buf = np.empty(SHAPE, DTYPE)", f"{function}({joined})")
    return None


def _operator(node: ast.BinOp | ast.UnaryOp | ast.Compare) -> Form | None:
    if isinstance(node, ast.BinOp):
        operator: ast.AST = node.op
        operands: list[ast.expr] = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        operator, operands = node.op, [node.operand]
    elif len(node.ops) > 1:
        return None  # a chain: 1 < x < 3
    else:
        operator, operands = node.ops[0], [node.left, node.comparators[0]]
    name = _OPERATORS.get(type(operator))
    if name is None:
        return None
    text = ", ".join(ast.unparse(operand) for operand in operands)
    return Form("buf = np.empty(SHAPE, DTYPE)", f"np.{name}({text}, out=buf)")


def is_size(call: ast.Call) -> bool:
    """Whether `bytearray(…)` is told how large, and not what to hold, as far as can be seen.

    >>> is_size(ast.parse("bytearray(2 * n)", mode="eval").body)
    True
    >>> is_size(ast.parse("bytearray(data[3:])", mode="eval").body)
    False
    """
    if len(call.args) != 1 or call.keywords:
        return False
    given = call.args[0]
    if isinstance(given, ast.Constant):
        return isinstance(given.value, int)
    if isinstance(given, ast.Subscript):
        return not isinstance(given.slice, ast.Slice)
    if isinstance(given, ast.Call):
        name, _ = _called(given)
        return name in ("len", "int", "max", "min", "sum", "round", "prod")
    if isinstance(given, ast.BinOp):
        return not any(
            isinstance(node, ast.Constant) and isinstance(node.value, bytes | str)
            for node in ast.walk(given)
        )
    return isinstance(given, ast.Name | ast.Attribute | ast.IfExp)


def makes_size(expression: str) -> bool:
    """Whether this is `bytearray(n)`: zeroed memory, of which only the size is asked for."""
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError:
        return False
    return isinstance(node, ast.Call) and _called(node) == ("bytearray", "") and is_size(node)


def _is_meant(name: str, call: ast.Call, array: bool) -> bool:
    if name in _ARRAY_CALLS:
        return array
    if name == "join":  # of bytes: text has no form that writes into memory
        joined = call.func.value if isinstance(call.func, ast.Attribute) else None
        return isinstance(joined, ast.Constant) and isinstance(joined.value, bytes)
    return True


def _called(node: ast.Call) -> tuple[str, str]:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr, ast.unparse(node.func.value)
    if isinstance(node.func, ast.Name):
        return node.func.id, ""
    return "", ""
