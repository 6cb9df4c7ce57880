"""One process, or several, that run the clips of a job."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from bench.errors import RunError
from bench.evaluating.runner import ClipRun, Job, Runner


def run_clips(job: Job, workers: int) -> Iterator[list[ClipRun]]:
    """Run all clips, block by block in their order; the results do not depend on the number of processes.

    Args:
        job: what is to be done; it is sent to the processes.
        workers: processes; with 1, it is this one.

    Raises:
        UsageError, RunError: as `Runner`, or a process was killed.
    """
    blocks = job.blocks
    if min(workers, len(blocks)) <= 1:
        threads = torch.get_num_threads()
        _use_one_thread(job)
        try:
            yield from map(Runner(job).run, blocks)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("forkserver")  # which imports torch once for all processes
    context.set_forkserver_preload([__name__])
    executor = ProcessPoolExecutor(min(workers, len(blocks)), context, _start, (job,))
    try:
        yield from executor.map(_run, blocks)
    except BrokenProcessPool as error:
        raise RunError("a worker process ended before its work was done: it was killed, or memory ran out") from error
    finally:
        executor.shutdown(cancel_futures=True)


_runner: Runner | None = None


def _start(job: Job) -> None:
    global _runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the main process, which ends its workers
    _use_one_thread(job)
    _runner = Runner(job)


def _run(block: range) -> list[ClipRun]:
    assert _runner is not None
    return _runner.run(block)


def _use_one_thread(job: Job) -> None:
    # With another number of threads, sums may be rounded otherwise.
    if torch.device(job.task.device).type == "cpu":
        torch.set_num_threads(1)
