"""What `maskmend refine` says while it works, and when it is done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from maskmend.clients.backends import Backend
    from maskmend.clients.job import JobSummary
    from maskmend.service import StageTimes

console = Console(stderr=True)


class JobProgress:
    """A bar on a terminal; otherwise a line every five seconds.

    Args:
        doing: what is done, as the bar says it.
        done: what the finished ones are called, as the lines say it.
    """

    def __init__(self, doing: str = "refining", done: str = "records refined") -> None:
        self._doing, self._done = doing, done

    def __enter__(self) -> JobProgress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn(self._doing),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._doing, total=None)
        self._said = time.monotonic()
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` records are finished."""
        self._bar.update(self._task, completed=done, total=total)
        if not console.is_terminal and (time.monotonic() - self._said > 5 or done == total):
            self._said = time.monotonic()
            console.print(f"{done} of {total} {self._done}", highlight=False)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def say(summary: JobSummary, seconds: float, output: Path | str) -> None:
    """One line on what became of the records, and one on those that could not be refined."""
    crowds = f", {summary.crowds} crowd regions passed through" if summary.crowds else ""
    console.print(
        f"{output}: {summary.refined} of {summary.records} records refined ({summary.changed} changed, "
        f"{summary.abstained} kept by the guard{crowds}) in {seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    say_errors(len(summary.errors), "records kept unchanged", output)


def say_lost(backend: Backend) -> None:
    """One line on workers that died on the way, if any did."""
    lost, again = getattr(backend, "lost", 0), getattr(backend, "again", 0)
    if lost:
        told = f"{lost} workers died and were replaced; {again} images were begun again"
        console.print(told, highlight=False, soft_wrap=True)


def say_errors(count: int, what: str, output: Path | str) -> None:
    """One line on what failed, if anything did, and where to read why."""
    if count:
        console.print(f"{count} {what} because of an error; see {output}.errors.jsonl", highlight=False, soft_wrap=True)


def say_profile(stages: StageTimes, seconds: float) -> None:
    """A table of busy time by stage, and of the part of the job's `seconds` in which each stage was at work."""
    from rich.table import Table

    table = Table("stage", "busy s", "of the busy time", "at work, of the job's time")
    for stage, busy in stages.seconds.items():
        known = stages.clock(stage)
        at_work = f"{100 * known / seconds:.1f} %" if known and seconds else ""
        table.add_row(stage, f"{busy:.3f}", f"{100 * stages.share(stage):.1f} %", at_work)
    table.add_row("total", f"{stages.total:.3f}", "100 %", f"{seconds:.3f} s")
    console.print(table)
