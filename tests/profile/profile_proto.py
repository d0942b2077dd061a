"""pprof files as google protobuf and the readers of others see them.

The messages are declared here as https://github.com/google/pprof/blob/main/proto/profile.proto
has them, so that no compiler of .proto files is needed.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

MESSAGES = {
    "Profile": "sample_type:*ValueType=1 sample:*Sample=2 mapping:*Mapping=3 location:*Location=4 "
    "function:*Function=5 string_table:*string=6 drop_frames:int64=7 keep_frames:int64=8 "
    "time_nanos:int64=9 duration_nanos:int64=10 period_type:ValueType=11 period:int64=12 "
    "comment:*int64=13 default_sample_type:int64=14 doc_url:int64=15",
    "ValueType": "type:int64=1 unit:int64=2",
    "Sample": "location_id:*uint64=1 value:*int64=2 label:*Label=3",
    "Label": "key:int64=1 str:int64=2 num:int64=3 num_unit:int64=4",
    "Mapping": "id:uint64=1 memory_start:uint64=2 memory_limit:uint64=3 file_offset:uint64=4 "
    "filename:int64=5 build_id:int64=6 has_functions:bool=7 has_filenames:bool=8 "
    "has_line_numbers:bool=9 has_inline_frames:bool=10",
    "Location": "id:uint64=1 mapping_id:uint64=2 address:uint64=3 line:*Line=4 is_folded:bool=5",
    "Line": "function_id:uint64=1 line:int64=2 column:int64=3",
    "Function": "id:uint64=1 name:int64=2 system_name:int64=3 filename:int64=4 start_line:int64=5",
}


def _message_class() -> Any:
    field_type = descriptor_pb2.FieldDescriptorProto
    plain = {
        "int64": field_type.TYPE_INT64,
        "uint64": field_type.TYPE_UINT64,
        "bool": field_type.TYPE_BOOL,
        "string": field_type.TYPE_STRING,
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="profile.proto", package="perftools.profiles", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            field_name, repeated, type_, number = re.fullmatch(
                r"(\w+):(\*?)(\w+)=(\d+)", field
            ).groups()
            label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            made = message.field.add(name=field_name, number=int(number), label=label)
            if type_ in plain:
                made.type = plain[type_]
            else:
                made.type = field_type.TYPE_MESSAGE
                made.type_name = f".perftools.profiles.{type_}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("perftools.profiles.Profile")
    return message_factory.GetMessageClass(found)


Profile = _message_class()


def parse(body: bytes) -> Any:
    """A gzipped profile as google protobuf reads it."""
    return Profile.FromString(gzip.decompress(body))


def check(profile: Any) -> None:
    """What its readers demand of a profile, and what they would silently leave out.

    - pprof: `CheckValid` in profile/profile.go (github.com/google/pprof).
    - Parca: `ValidatePprofProfile` in pkg/normalizer/validate.go (github.com/parca-dev/parca).
    - Pyroscope: `Normalize` and `sanitizeProfile` in pkg/pprof/pprof.go, `ValidateProfile` in
      pkg/validation/validate.go (github.com/grafana/pyroscope); a location without a mapping was
      a crash once.
    - speedscope: `importAsPprofProfile` in src/import/pprof.ts (github.com/jlfwong/speedscope).
    """
    texts = profile.string_table
    assert texts[0] == ""  # Parca, Pyroscope
    assert len(set(texts)) == len(texts)

    def known(*numbers: int) -> bool:
        return all(0 <= number < len(texts) for number in numbers)

    assert profile.sample_type
    for value_type in [*profile.sample_type, profile.period_type]:
        assert known(value_type.type, value_type.unit)
        assert texts[value_type.type]
        assert texts[value_type.unit]
        assert "-" not in texts[value_type.type]  # Pyroscope
    types = [value_type.type for value_type in profile.sample_type]
    assert len(set(types)) == len(types)
    assert profile.default_sample_type in types  # speedscope
    assert profile.time_nanos > 0
    assert profile.period > 0

    # Ids count from 1 (Parca), every location has a mapping, a line and a function (Pyroscope).
    assert profile.mapping
    for table in (profile.mapping, profile.function, profile.location):
        assert [entry.id for entry in table] == list(range(1, len(table) + 1))
    for mapping in profile.mapping:
        assert known(mapping.filename, mapping.build_id)
        assert texts[mapping.filename]
        assert mapping.has_functions
        assert mapping.has_filenames
        assert mapping.has_line_numbers
    for function in profile.function:
        assert known(function.name, function.system_name, function.filename)
        assert texts[function.name]  # speedscope
    for location in profile.location:
        assert 1 <= location.mapping_id <= len(profile.mapping)
        assert len(location.line) == 1
        assert 1 <= location.line[0].function_id <= len(profile.function)

    for sample in profile.sample:
        assert len(sample.value) == len(profile.sample_type)
        assert any(sample.value)
        # Pyroscope drops all of a row for one such value.
        assert min(sample.value) >= 0 or max(sample.value) <= 0
        assert sample.location_id
        assert all(1 <= number <= len(profile.location) for number in sample.location_id)
        for label in sample.label:
            assert known(label.key, label.str, label.num_unit)
            assert label.key  # Parca
            assert not (label.str and label.num)  # pprof reads the one, or the other
        keys = [label.key for label in sample.label]
        assert len(set(keys)) == len(keys)


def columns(profile: Any) -> list[tuple[str, str]]:
    """(type, unit) of each column."""
    return [
        (profile.string_table[value.type], profile.string_table[value.unit])
        for value in profile.sample_type
    ]


def sums(profile: Any) -> dict[str, int]:
    """The total of each column."""
    return {
        name: sum(sample.value[number] for sample in profile.sample)
        for number, (name, _) in enumerate(columns(profile))
    }


def labels(profile: Any, sample: Any) -> dict[str, str | int]:
    """The labels of one sample."""
    texts = profile.string_table
    return {
        texts[label.key]: texts[label.str] if label.str else label.num for label in sample.label
    }


def functions(profile: Any, sample: Any) -> list[str]:
    """The functions of one sample's stack, innermost first."""
    return [
        profile.string_table[
            profile.function[profile.location[number - 1].line[0].function_id - 1].name
        ]
        for number in sample.location_id
    ]


def lines(profile: Any, sample: Any) -> list[tuple[str, int]]:
    """(file, line) of one sample's stack, innermost first."""
    found = []
    for number in sample.location_id:
        line = profile.location[number - 1].line[0]
        file = profile.string_table[profile.function[line.function_id - 1].filename]
        found.append((file, line.line))
    return found


needs_pprof = pytest.mark.skipif(
    shutil.which("go") is None,
    reason="the real pprof is not here: on Debian, apt-get install golang-go",
)


def real_pprof(folder: Path, *words: str) -> str:
    """What `go tool pprof` prints."""
    done = subprocess.run(
        ["go", "tool", "pprof", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PPROF_TMPDIR": str(folder), "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def real_total(folder: Path, source: str, column: str, unit: str) -> int:
    """The total of a column by `go tool pprof -top`, in the unit it is in."""
    shown = real_pprof(folder, "-top", f"-sample_index={column}", f"-unit={unit}", source)
    found = re.search(r"Total samples = (-?\d+)", shown)
    assert found, shown
    return int(found[1])
