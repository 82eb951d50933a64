"""The line of the main job: share done, time left and what is running, on a terminal and in a log."""

import io
import os
import shutil

import pytest

from figures.job.progress import Display, Progress


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def told_progress(clock, profile="quick"):
    """Return the progress of a job that has told its plan."""
    progress = Progress(["studies", "experiments"], profile, cores=2, clock=clock)
    assert not progress.known
    progress.tell("studies", "arena", 5, 10)
    progress.tell("studies", "brand-new", 0, 4)
    progress.tell("experiments", "alpha/references", 0, 3)
    progress.tell("experiments", "alpha", 0, 30)
    return progress


def test_progress_is_honest_about_what_was_saved_and_learns_the_speed_of_the_machine():
    now = [0.0]
    progress = told_progress(lambda: now[0])
    begun, first = progress.share, progress.left()
    assert progress.known and 0.0 < begun < 0.1
    assert progress.running() == "arena 5/10, alpha/references 0/3"
    shares = [begun]
    for done in range(1, 31):
        now[0] += 60.0  # a machine that is a hundred times slower
        progress.tell("experiments", "alpha", done, 30)
        shares.append(progress.share)
    assert shares == sorted(shares) and shares[-1] < 1.0
    progress.tell("studies", "arena", 10, 10)
    assert progress.left() > 2.0 * first and progress.running() == "brand-new 0/4"
    assert progress.counts() == {"studies": (1, 2), "experiments": (1, 1)}
    for stage in ("studies", "experiments"):
        progress.end(stage)  # the references, of which it had told, were not needed
    progress.draw()
    assert progress.running() == "figures, claims and report" and shares[-1] < progress.share < 1.0
    left = progress.left()
    now[0] += 10.0
    assert progress.left() == pytest.approx(left - 10.0)
    now[0] += 1000.0
    assert progress.left() == 0.0


def test_on_a_terminal_there_is_one_line_that_fits(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    now, stream = [0.0], Terminal()
    display = Display(stream, told_progress(lambda: now[0]), clock=lambda: now[0])
    now[0] = 83.0
    display.update()
    display.update()
    text = stream.getvalue()
    assert "\n" not in text and text.count("\r") == 2
    line = text.split("\r")[1].removesuffix("\x1b[K")
    assert len(line) <= 59 and line.startswith("  4 % ") and "left: arena 5/10" in line
    display.say("done")
    display.clear()
    assert stream.getvalue().endswith("\rdone\x1b[K\n\r\x1b[K")


def test_in_a_log_there_is_a_line_when_something_ends_or_a_minute_has_passed():
    now, stream = [0.0], io.StringIO()
    progress = told_progress(lambda: now[0])
    display = Display(stream, progress, clock=lambda: now[0])
    for now[0] in (1.0, 30.0, 61.0, 62.0):
        display.update()
    progress.tell("studies", "arena", 10, 10)
    display.update()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 and lines[0].endswith("left: arena 5/10, alpha/references 0/3 (01:01 so far)")
    assert lines[1].endswith("left: brand-new 0/4, alpha/references 0/3 (01:02 so far)")
    empty = io.StringIO()
    Display(empty, Progress(["studies"], "paper", cores=4), clock=lambda: now[0]).update()
    assert empty.getvalue() == ""
