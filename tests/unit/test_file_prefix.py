"""The prefix of an exported file's name, for any text: it stays inside ComfyUI's output folder."""

from __future__ import annotations

import ntpath
import posixpath
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fitdiff_core.files import bad_prefix


def windows_takes_it_for(name: str) -> str:
    """Windows drops blanks and dots at the end of every name."""
    parts = re.split(r"[\\/]", name)
    return "\\".join(p if set(p) <= {"."} and len(p) <= 2 else p.rstrip(". ") for p in parts)


PIECES = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "a", "b c", " ", "C:", "con", "~", "%", "..."]), max_size=8
).map("".join)


def test_any_prefix_is_refused_or_stays_inside_the_output_folder():
    accepted = []

    @settings(max_examples=500, deadline=None)
    @given(st.one_of(PIECES, st.text(max_size=20)))
    @example("a/.. /.. /b")
    @example("a\\..\\..\\b")
    @example("C:b")
    @example("head/脸")
    def run(prefix):
        if bad_prefix(prefix):
            return
        accepted.append(prefix)
        name = prefix.strip().replace("\\", "/")
        inside = posixpath.normpath(posixpath.join("/comfy/output", name))
        assert inside.startswith("/comfy/output/")
        inside = ntpath.normpath(ntpath.join("D:\\comfy\\output", windows_takes_it_for(name)))
        assert inside.startswith("D:\\comfy\\output\\")
        assert (
            not set(name) & set('<>:"|?*') and not any(ntpath.isreserved(p) for p in name.split("/") if p)
            if hasattr(ntpath, "isreserved")
            else True
        )

    run()
    assert len(accepted) > 20
