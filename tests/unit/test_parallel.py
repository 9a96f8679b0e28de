"""Steps side by side: order, failures, and what holds in each."""

import threading

import pytest
import torch

from fitdiff_core import progress
from fitdiff_core.parallel import side_by_side


@pytest.fixture
def four_threads(monkeypatch):
    """torch says that it has four threads; what it is set to is noted in the list."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    return asked


def test_results_come_in_the_order_of_the_jobs(four_threads):
    first = threading.Event()
    assert side_by_side(lambda: first.wait(60) and "a", lambda: first.set() or "b") == ["a", "b"]


def test_jobs_share_the_threads_and_give_them_back(four_threads):
    ready = threading.Barrier(2)
    side_by_side(ready.wait, ready.wait)
    assert four_threads == [2, 2, 4]


def test_one_thread_runs_the_jobs_in_its_own_turn(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert side_by_side(threading.get_ident, threading.get_ident) == [threading.get_ident()] * 2


@pytest.mark.parametrize("inference", [False, True])
def test_inference_mode_and_gradients_are_those_of_the_caller(four_threads, inference):
    with torch.inference_mode(inference), torch.set_grad_enabled(not inference):
        modes = side_by_side(*[lambda: (torch.is_inference_mode_enabled(), torch.is_grad_enabled())] * 2)
    assert modes == [(inference, not inference)] * 2


def test_a_failure_is_raised_after_all_jobs_have_ended(four_threads):
    ended = []

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        side_by_side(fail, lambda: ended.append(1))
    assert ended == [1] and four_threads[-1] == 4


def test_an_interrupt_reaches_the_jobs(four_threads):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop), progress.listen(None, stop):
        side_by_side(progress.check, progress.check)
