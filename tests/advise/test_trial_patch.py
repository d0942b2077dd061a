"""Unified diffs apply exactly, or say in one sentence why not."""

from __future__ import annotations

import difflib
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from poolwise.advise.trial_patch import apply_patch
from poolwise.errors import UsageError


def apply(folder: Path, patch: str | bytes) -> dict[str, str]:
    file = folder / "change.patch"
    file.write_bytes(patch.encode() if isinstance(patch, str) else patch)
    into = folder / "into"
    into.mkdir(exist_ok=True)
    return apply_patch(file, [folder], into)


@pytest.mark.parametrize("seed", range(40))
def test_random_changes_of_random_files(seed: int, tmp_path: Path) -> None:
    """difflib, and diff where there is one, make the patches; we must make the new file of it."""
    source = random.Random(seed)
    old = [source.choice("abcde") + "\n" for _ in range(source.randrange(30))]
    new = list(old)
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(new) + 1)
        new[at : at + source.randrange(3)] = source.choices("xyz\n", k=source.randrange(3))
    new = [line if line.endswith("\n") else line + "\n" for line in new]
    if old == new:
        new = [*new, "end\n"]
    (tmp_path / "a.py").write_text("".join(old))
    (tmp_path / "b.py").write_text("".join(new))
    lines = difflib.unified_diff(old, new, "a/a.py", "b/a.py", n=source.randrange(4))
    patches = ["".join(lines)]
    if shutil.which("diff"):
        made = subprocess.run(
            ["diff", "-u", "a.py", "b.py"], cwd=tmp_path, capture_output=True, text=True
        )
        patches.append(made.stdout)
    for patch in patches:
        ((original, patched),) = apply(tmp_path, patch).items()
        assert original == str(tmp_path / "a.py")
        assert Path(patched).read_text() == "".join(new)
        assert (tmp_path / "a.py").read_text() == "".join(old)


def test_ends_without_a_newline_and_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"one\r\ntwo")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.py").write_bytes(b"x\n")
    patch = (
        b"diff --git a/a.py b/a.py\nindex 1..2\n--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n one\r\n"
        b"-two\n\\ No newline at end of file\n+2\n\\ No newline at end of file\n"
        b"--- a/sub/b.py\t2026-01-01\n+++ b/sub/b.py\t2026-01-01\n@@ -1 +1,2 @@\n x\n+y\n"
    )
    overlay = apply(tmp_path, patch)
    texts = {Path(old).name: Path(new).read_bytes() for old, new in overlay.items()}
    assert texts == {"a.py": b"one\r\n2", "b.py": b"x\ny\n"}


HEAD = "--- a/a.py\n+++ b/a.py\n"


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ("", "holds no change"),
        ("text\n", "holds no change"),
        (HEAD + "@@ -1 +1 @@\n-other\n+x\n", "does not apply to .*a.py at line 1"),
        (HEAD + "@@ -2 +2 @@\n-one\n+x\n", "does not apply to .*a.py at line 2"),
        (HEAD + "@@ -2 +2 @@\n-two\n+x\n@@ -1 +1 @@\n-one\n+x\n", "does not apply .* line 1"),
        (HEAD + "@@ -1,2 +1,2 @@\n-one\n+x\n", "the hunk ends early"),
        (HEAD + "@@ nonsense\n", "not a hunk header"),
        ("@@ -1 +1 @@\n-one\n+x\n", "a hunk before any"),
        ("--- a/c.py\n+++ b/c.py\n@@ -1 +1 @@\n-one\n+x\n", "changes a/c.py, which is not in"),
        ("--- /dev/null\n+++ b/c.py\n@@ -0,0 +1 @@\n+x\n", "makes or removes a file"),
        ((HEAD + "@@ -1 +1 @@\n-one\n+x\n") * 2, "names a/a.py twice"),
    ],
)
def test_what_cannot_be_applied(patch: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match=sentence) as caught:
        apply(tmp_path, patch)
    assert "\n" not in str(caught.value)


def test_a_patch_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no.patch: cannot be read \(No such file"):
        apply_patch(tmp_path / "no.patch", [tmp_path], tmp_path)
