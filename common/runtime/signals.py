"""Ctrl-C, SIGTERM and SIGHUP end a command in order: one line, and exit status 130, 143 or 129."""

from __future__ import annotations  # the doctor tells an old Python so, and comes by here

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
# Signals that end a command, and the handler that each has in an ordinary process
ENDING = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if HANGUP:
    ENDING[HANGUP] = signal.SIG_DFL


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Has Ctrl-C, SIGTERM and SIGHUP raise `Stopped` in the main thread, so that `finally` and `with` do their work.

    A signal that is ignored (nohup) or has a handler already stays as it is. After the first one SIGTERM and SIGHUP are
    passed over, because launchers repeat them; Ctrl-C still ends the clean-up.
    """
    stopped: list[int] = []

    def stop(number: int, _frame) -> None:
        if number == HANGUP:
            silence_lost_output()
        if not stopped or number == signal.SIGINT:
            stopped.append(number)
            raise Stopped(number)

    ours = {}
    if threading.current_thread() is threading.main_thread():
        ours = {number: usual for number, usual in ENDING.items() if signal.getsignal(number) == usual}
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    except Exception:
        if stopped:  # Paddle makes an error of it in a backward pass of ours
            raise Stopped(stopped[0]) from None
        raise
    finally:
        for number, usual in ours.items():
            signal.signal(number, usual)


def silence_lost_output() -> None:
    """Sends to nowhere what this process prints to a terminal or a pipe that is gone, as after a SIGHUP."""
    if not hasattr(select, "poll"):
        return
    for number in (1, 2):
        poll = select.poll()
        poll.register(number, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def name_and_status(stop: KeyboardInterrupt) -> tuple[str, int]:
    """What ended the command, and its exit status: 128 + the signal's number, as for any other command."""
    number = getattr(stop, "number", signal.SIGINT)
    if number != signal.SIGINT:
        silence_lost_output()  # the line that follows would be an error of its own
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name, 128 + number
