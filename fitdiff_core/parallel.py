"""Independent steps of a run side by side, on as many cores as torch uses."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def side_by_side(*jobs: Callable[[], Any]) -> list[Any]:
    """Results of the jobs, in their order. They run in threads which share torch's threads between them.

    Most steps outside the networks use a single core, so that two of them next to each other take half the time. With
    one thread they run one after the other. The progress listener and torch's inference mode hold in each job. After a
    failure the others still run to their end; the first failure is raised.
    """
    threads = torch.get_num_threads()
    workers = min(len(jobs), threads)
    if workers < 2:
        return [job() for job in jobs]
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def start() -> None:
        torch.set_num_threads(threads // workers)  # of this thread: OpenMP has a team for each

    def within(job: Callable[[], Any]) -> Any:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return job()

    try:
        with ThreadPoolExecutor(workers, initializer=start) as pool:
            futures = [pool.submit(contextvars.copy_context().run, within, job) for job in jobs]
        return [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)
