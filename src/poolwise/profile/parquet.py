"""A recording's tables as Parquet files, by pyarrow."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from poolwise.errors import UsageError
from poolwise.profile.tables import Profile

SUFFIX = ".parquet"


def write(profile: Profile, path: str | os.PathLike[str]) -> list[str]:
    """Write both tables; returns the files.

    A path that ends in `.parquet` is one file, each sample with the columns of its site. Any other
    is a directory, made if need be, with `samples.parquet` and `sites.parquet`. A file appears
    whole or not at all.

    Raises:
        UsageError: pyarrow is not installed, or the path cannot be written to.
    """
    try:
        import pyarrow
    except ImportError:
        raise UsageError(
            "Parquet files are written by pyarrow, which is not installed: "
            "pip install 'poolwise[parquet]'"
        ) from None
    name = os.fspath(path)
    samples, sites = pyarrow.table(profile.samples), pyarrow.table(profile.sites)
    try:
        if name.endswith(SUFFIX):
            of_sample = sites.take(samples["site_id"]).drop_columns("site_id")
            for column, field in zip(of_sample.columns, of_sample.schema, strict=True):
                samples = samples.append_column(field, column)
            tables = {name: samples}
        else:
            os.makedirs(name, exist_ok=True)
            tables = {
                os.path.join(name, table_name + SUFFIX): table
                for table_name, table in (("samples", samples), ("sites", sites))
            }
        for file, table in tables.items():
            _write_whole(table, file)
    except FileExistsError:
        raise UsageError(
            f"{name}: this is a file; name a directory, or a file that ends in {SUFFIX}"
        ) from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"{name}: cannot be written ({why}); make room, or name a place that can"
        ) from None
    return list(tables)


def _write_whole(table: Any, file: str) -> None:
    import pyarrow.parquet

    part = f"{file}.part"
    try:
        pyarrow.parquet.write_table(table, part, compression="zstd")
        os.replace(part, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
