"""Notices when another process of a run dies or stops answering, and ends this one with a line that names it.

Neither gloo nor NCCL say who is missing, and they wait for half an hour or for ever. Here every process keeps one
connection to process 0, and both ends of it say each second that they live.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator

from common.errors import UserError, first_line

BEAT_SECONDS = 1
SILENT_SECONDS = 120  # a process that compiles or swaps may not come to say anything for long
CONNECT_SECONDS = 30
GRACE_SECONDS = 1  # in which a call that waits for the one that is gone may fail by itself
PATIENCE_SECONDS = 300  # for a process that is busy with something else, such as a checkpoint

_watch: Watch | None = None


def open_watch() -> None:
    """Connects the processes of a run, which Paddle has connected before."""
    global _watch
    import paddle

    if _watch is None:
        rank = paddle.distributed.get_rank()
        host = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0].rpartition(":")[0]
        listener = socket.create_server((host, 0)) if rank == 0 else None
        port = listener.getsockname()[1] if listener else 0
        where = paddle.to_tensor([port, secrets.randbits(30)], dtype="int32")
        paddle.distributed.broadcast(where, 0)
        port, token = where.tolist()
        _watch = Watch(rank, token)
        if listener:
            _watch.listen(listener, paddle.distributed.get_world_size() - 1)
        else:
            _watch.connect(host, port)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What is done with the other processes stands within this.

    Raises:
        UserError: one of them is gone; it is named.
    """
    if _watch is None:
        yield
        return
    _watch.check()
    _watch.waiting = True
    try:
        yield
    except Exception:
        _watch.known.wait(2 * GRACE_SECONDS)  # until the watch has noticed too
        _watch.check()
        raise
    finally:
        _watch.waiting = False


def leave(problem: BaseException | None) -> None:
    """Says to the others that this process is done, or why it ends before them."""
    global _watch
    if _watch is not None:
        _watch.leave("bye" if problem is None or isinstance(problem, SystemExit) else f"gone {first_line(problem)}")
        _watch = None


class Watch:
    """The connections of one process, each read by a thread of its own."""

    def __init__(self, rank: int, token: int):
        self.rank, self.token = rank, token
        self.name = f"process {rank} (pid {os.getpid()} on {socket.gethostname()})"
        self.waiting = False  # for the others, in a call that may never return
        self.known = threading.Event()
        self.lost = ""  # who is gone, and how
        self._left = threading.Event()
        self._lines: list[socket.socket] = []

    def check(self) -> None:
        if self.lost:
            raise UserError(self.lost)

    def listen(self, listener: socket.socket, others: int) -> None:
        """Process 0 waits for the others, but lets nobody wait for that."""

        def accept() -> None:
            listener.settimeout(CONNECT_SECONDS)
            with listener, contextlib.suppress(OSError):
                while len(self._lines) < others:
                    line, _ = listener.accept()
                    self._start(line)

        threading.Thread(target=accept, daemon=True).start()

    def connect(self, host: str, port: int) -> None:
        try:
            self._start(socket.create_connection((host, port), CONNECT_SECONDS))
        except OSError as problem:
            print(
                f"note: process 0 cannot be reached at {host}:{port} ({problem.strerror or problem}): a process that "
                "dies will not be named here",
                file=sys.stderr,
            )

    def _start(self, line: socket.socket) -> None:
        line.settimeout(SILENT_SECONDS)
        threading.Thread(target=self._listen_to, args=(line,), daemon=True).start()

    def _listen_to(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            line.sendall(f"{self.token} {self.name}\n".encode())
        words = line.makefile(errors="replace", newline="\n")
        try:
            token, _, name = words.readline(300).strip().partition(" ")
        except OSError:
            return
        if token != str(self.token):  # somebody else's knock at the port
            line.close()
            return
        self._lines.append(line)
        threading.Thread(target=self._beat, args=(line,), daemon=True).start()
        try:
            word = "beat"
            while word == "beat":
                word = words.readline(400).rstrip("\n")
        except TimeoutError:
            word = f"has not answered for {SILENT_SECONDS} s"
        except OSError:
            word = ""
        if word == "bye" or self._left.is_set():
            return
        if word.startswith("lost "):
            self._lose(word.removeprefix("lost "))
        else:
            what = word.replace("gone ", "ended: ", 1) if word else "is gone: it ended or was killed"
            self._lose(f"{name} of this run {what}")

    def _beat(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self._left.wait(BEAT_SECONDS):
                line.sendall(b"beat\n")

    def _lose(self, what: str) -> None:
        if self.lost:
            return
        self.lost = f"{what}; the same command goes on from the last checkpoint"
        self.known.set()
        if self.rank == 0:
            self._tell(f"lost {what}")
        waited = 0.0
        while waited < PATIENCE_SECONDS and not self._left.is_set():
            time.sleep(GRACE_SECONDS)
            waited += PATIENCE_SECONDS if self.waiting else GRACE_SECONDS
        if not self._left.is_set():
            print(f"error: {self.lost}", file=sys.stderr, flush=True)
            os._exit(2)  # the main thread waits where no exception reaches it

    def _tell(self, text: str) -> None:
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.sendall(f"{text[:390]}\n".encode())

    def leave(self, word: str) -> None:
        self._left.set()
        self._tell(word)
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_WR)
