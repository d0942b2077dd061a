LINE_BYTES: int
LOCAL_BYTES: int

def count(layout: int, threads: int, increments: int, /) -> float: ...
