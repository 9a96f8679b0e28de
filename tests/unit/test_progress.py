"""Progress and interrupts of long calls, and files of an interrupted one."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from fitdiff_core import progress
from fitdiff_core.errors import UserError
from fitdiff_core.export import ExportOptions, write_avatar
from fitdiff_core.files import all_or_none, write_atomic
from fitdiff_core.progress import advance, in_background, listen, part, report, unheard
from tests.support.ball_avatar import avatar as ball_avatar


class Stop(Exception):
    pass


def nothing():
    pass


def test_parts_of_parts_make_one_bar():
    seen = []
    with listen(seen.append, nothing):
        with part(0, 2):
            report(1, 2)
        with part(1, 2):
            for i in range(2):
                with part(i, 2):
                    advance(0.5)
            with unheard():
                report(1, 1)
    assert seen == [0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.0]


def test_without_a_listener_nothing_happens():
    report(1, 2)
    progress.check()
    with part(0, 2), unheard():
        advance(0.5)
    assert in_background(threading.get_ident) == threading.get_ident()


def test_an_interrupt_does_not_wait_for_a_slow_call():
    until, asked = threading.Event(), []

    def check():
        asked.append(1)
        if len(asked) > 2:
            raise Stop

    with listen(None, check), pytest.raises(Stop):
        in_background(until.wait)
    until.set()


def test_background_gives_back_results_and_errors():
    with listen(None, nothing):
        assert in_background(lambda: 7) == 7

        def fail():
            raise UserError("no")

        with pytest.raises(UserError, match="no"):
            in_background(fail)


def test_all_or_none_removes_new_files_only(tmp_path):
    old = write_atomic(tmp_path / "old", b"1")
    with pytest.raises(Stop), all_or_none():
        write_atomic(old, b"2")
        write_atomic(tmp_path / "new", b"3")
        raise Stop
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    with all_or_none():
        write_atomic(tmp_path / "kept", b"3")
    assert (tmp_path / "kept").exists()


@pytest.mark.parametrize("format", ["glb", "obj", "ply", "usdz"])
def test_an_export_stops_at_every_look_and_leaves_nothing(tmp_path, monkeypatch, format):
    monkeypatch.setattr(progress, "POLL", 60)  # else a busy machine decides how often it looks
    avatar, options = ball_avatar(), ExportOptions(format, map_files="16-bit", texture_size=64)
    looks = []
    with listen(None, lambda: looks.append(1)):
        write_avatar(tmp_path / "whole" / f"a.{format}", avatar, options)
    assert len(looks) >= 6
    for stop in range(0, len(looks), 5):
        left = iter([nothing] * stop)

        def check(left=left):
            if next(left, None) is None:
                raise Stop

        with listen(None, check), pytest.raises(Stop), all_or_none():
            write_avatar(tmp_path / "cut" / f"a.{format}", avatar, options)
        assert not [p for p in tmp_path.rglob("cut/*") if p.is_file()]


def test_encoding_a_large_map_can_be_interrupted():
    from fitdiff_core.image import encode_png

    start = time.thread_time()
    asked = []

    def check():
        asked.append(1)
        if len(asked) > 1:
            raise Stop

    with listen(None, check), pytest.raises(Stop):
        encode_png(torch.rand(3, 1024, 1024), 16)
    assert time.thread_time() - start < 2
