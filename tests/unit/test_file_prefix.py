"""The prefix of an exported file's name, for any text: it stays inside ComfyUI's output folder."""

from __future__ import annotations

import ntpath
import posixpath
import re
from datetime import datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fitdiff_core.files import bad_prefix
from fitdiff_core.save_prefix import bad_template, format_date, replace_tokens


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


NOW = datetime(2026, 3, 7, 9, 5, 4)
PROMPT = {
    "4": {"class_type": "FitDiff_Sampler", "inputs": {"seed": 42, "cfg": 1.5, "steps": 8.0, "model": ["1", 0]}},
    "7": {"class_type": "FitDiff_Sampler", "inputs": {"seed": 43}, "_meta": {"title": "second"}},
    "9": {"class_type": "LoadImage", "inputs": {"image": "a/b:c.jpg", "on": True, "none": None}},
}
WORKFLOW = {
    "nodes": [
        {"id": 4, "title": "my sampler", "properties": {"Node name for S&R": "first"}},
        {"id": 9, "properties": None},
    ]
}


@pytest.mark.parametrize(
    "form, text",
    [
        ("yyyy-MM-dd", "2026-03-07"),
        ("d.M.yy h:m:s", "7.3.26 9:5:4"),
        ("hhmmss", "090504"),
        ("yyyMMdd", "yyy0307"),
        ("", ""),
    ],
)
def test_dates_are_written_as_the_frontend_writes_them(form, text):
    assert format_date(form, NOW) == text


@pytest.mark.parametrize(
    "prefix, name",
    [
        ("a/%date:yyyy-MM-dd%/head", "a/2026-03-07/head"),
        ("%date:yyyy/MM%/head", "2026/03/head"),
        ("%first.seed%", "42"),
        ("%my sampler.cfg%_%my sampler.steps%", "1.5_8"),
        ("%second.seed%", "43"),
        ("%LoadImage.image%_%LoadImage.on%_%LoadImage.none%", "a_b_c.jpg_true_"),
        ("%first.model%", "%first.model%"),
        ("%gone.seed%_%first.gone%", "%gone.seed%_%first.gone%"),
        ("%year%_%width%", "%year%_%width%"),  # core's backend replaces these
        ("100%", "100%"),
    ],
)
def test_tokens_are_replaced_as_for_cores_save_nodes(prefix, name):
    assert replace_tokens(prefix, PROMPT, WORKFLOW, NOW) == name
    assert bad_template(prefix) is None


def test_api_prompt_without_workflow_or_prompt():
    assert replace_tokens("%FitDiff_Sampler.seed%", PROMPT) == "42"
    assert replace_tokens("%FitDiff_Sampler.seed%") == "%FitDiff_Sampler.seed%"


@pytest.mark.parametrize(
    "prefix, reason",
    [
        ("../%date:yyyy%", "leads out"),
        ("C:/%year%", "leads out"),
        ("a/head:c", "no name on Windows"),
        ("%date:yyyy%/", "is empty"),
        ("%date:yyyy", "no name on Windows"),  # no end, so no token
    ],
)
def test_bad_prefix_has_the_right_reason(prefix, reason):
    assert reason in bad_template(prefix)
