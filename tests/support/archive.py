"""What the registry's archive holds: the files of git without those that .comfyignore names.

python -m tests.support.archive [COMMIT]      (or `make archive`: the number of files, their size, the size of the zip)
"""

from __future__ import annotations

import fnmatch
import io
import subprocess
import sys
import zipfile

from tests.support.paths import ROOT


def git(*args: str) -> bytes:
    return subprocess.run(["git", *args], cwd=ROOT, check=True, capture_output=True).stdout


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether the last pattern that fits `path` leaves it out.

    Knows the part of the .gitignore syntax that .comfyignore uses: folders (`docs/`), files, `*`, and `!` to keep.
    A pattern with a slash before its end counts from the root, another one at any depth.
    """
    out = False
    parts = path.split("/")
    for pattern in patterns:
        keep, body = pattern.startswith("!"), pattern.removeprefix("!").strip("/")
        depth = body.count("/") + 1
        heads = ["/".join(parts[start : start + depth]) for start in (range(len(parts)) if depth == 1 else (0,))]
        if pattern.endswith("/"):  # a folder: never the file itself
            heads = heads[: len(parts) - 1] if depth == 1 else heads * (len(parts) > depth)
        if depth > 1 and not pattern.endswith("/") and len(parts) != depth:
            continue
        if any(fnmatch.fnmatchcase(head, body) for head in heads):
            out = not keep
    return out


def kept(paths: list[str], comfyignore: str) -> list[str]:
    """The paths that stay in the archive, for the text of a .comfyignore."""
    lines = [line.strip() for line in comfyignore.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [p for p in paths if not ignored(p, patterns)]


def archive_files() -> list[str]:
    """Paths of the work tree's archive, from the root with `/`: files that git tracks and that still exist."""
    paths = git("ls-files", "-z").decode().split("\0")
    text = (ROOT / ".comfyignore").read_text(encoding="utf-8")
    return kept([p for p in paths if p and (ROOT / p).is_file()], text)


def archive_of(commit: str) -> dict[str, bytes]:
    """Path -> contents of the archive of a commit, by that commit's own .comfyignore."""
    paths = git("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0")
    text = git("show", f"{commit}:.comfyignore").decode()
    return {p: git("show", f"{commit}:{p}") for p in kept([p for p in paths if p], text)}


def main(commits: list[str]) -> None:
    files = archive_of(commits[0]) if commits else {p: (ROOT / p).read_bytes() for p in archive_files()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    lines = sum(data.count(b"\n") for path, data in files.items() if path.endswith(".py"))
    size = sum(map(len, files.values()))
    print(f"{len(files)} files, {size:,} bytes, {packed.tell():,} zipped; {lines:,} lines of Python")


if __name__ == "__main__":
    main(sys.argv[1:])
