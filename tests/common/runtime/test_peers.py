"""Who is gone is known to all others, by name and reason: the ends of three processes, on real sockets."""

import os
import socket
import time

import pytest

from common.errors import UserError
from common.runtime import peers
from common.runtime.peers import Watch

TOKEN = 12345


@pytest.fixture
def three():
    listener = socket.create_server(("127.0.0.1", 0))
    watches = [Watch(rank, TOKEN) for rank in range(3)]
    port = listener.getsockname()[1]
    watches[0].listen(listener, 2)
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\n")
    for watch in watches[1:]:
        watch.connect("127.0.0.1", port)
    until(lambda: [len(watch._lines) for watch in watches] == [2, 1, 1])
    yield watches
    for watch in watches:
        watch.leave("bye")


def until(held):
    deadline = time.monotonic() + 30
    while not held():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_death_is_told_to_all(three):
    first, second, third = three
    second._left.set()
    second._lines[0].shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that was killed
    name = f"process 1 (pid {os.getpid()} on {socket.gethostname()}) of this run is gone"
    for watch in (first, third):
        assert watch.known.wait(30) and watch.lost.startswith(name)
        with pytest.raises(UserError, match="process 1 .* goes on from the last checkpoint"):
            watch.check()


def test_a_death_of_the_first_is_told_too(three):
    first, second, third = three
    first._left.set()
    for line in first._lines:
        line.shutdown(socket.SHUT_RDWR)
    for watch in (second, third):
        assert watch.known.wait(30) and watch.lost.startswith("process 0 (pid")


def test_the_reason_of_an_end_is_told(three, monkeypatch):
    first, second, third = three
    monkeypatch.setattr(peers, "_watch", third)
    peers.leave(RuntimeError("the disk is full\nand more"))
    for watch in (first, second):
        assert watch.known.wait(30) and "process 2" in watch.lost and "ended: the disk is full;" in watch.lost
    assert not third.lost and peers._watch is None


@pytest.mark.parametrize("end", [None, SystemExit(130)])
def test_an_end_in_order_alarms_nobody(three, monkeypatch, end):
    """Ctrl-C ends all of them together, by SystemExit."""
    first, second, third = three
    monkeypatch.setattr(peers, "_watch", second)
    peers.leave(end)
    assert not first.known.wait(0.5) and not third.known.is_set()
    first.check()


def test_silence_is_noticed(monkeypatch):
    monkeypatch.setattr(peers, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(peers, "BEAT_SECONDS", 60)
    listener = socket.create_server(("127.0.0.1", 0))
    first, second = Watch(0, TOKEN), Watch(1, TOKEN)
    port = listener.getsockname()[1]
    first.listen(listener, 1)
    second.connect("127.0.0.1", port)
    assert first.known.wait(30) and "process 1" in first.lost and "of this run has not answered for 0.5 s" in first.lost
    first.leave("bye"), second.leave("bye")
    monkeypatch.undo()
    assert 20 * peers.BEAT_SECONDS < peers.SILENT_SECONDS


def test_a_failing_call_is_explained_by_who_is_gone(three, monkeypatch):
    first, second, _ = three
    monkeypatch.setattr(peers, "_watch", first)
    with pytest.raises(ValueError, match="of another kind"), peers.together():
        raise ValueError("of another kind")
    with pytest.raises(UserError, match="process 1 .* is gone"), peers.together():
        second._left.set()
        second._lines[0].shutdown(socket.SHUT_RDWR)
        raise RuntimeError("[gloo] Connection closed by peer")
    with pytest.raises(UserError, match="process 1 .* is gone"), peers.together():
        pytest.fail("it must not wait for what cannot come")


def test_a_process_that_waits_for_ever_is_ended_with_the_line():
    """In a child: nothing but the end of the process helps where the main thread is inside a call."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 2)
        watch = Watch(1, TOKEN)
        watch.waiting = True
        os.dup2(write, 2)
        peers.sys.stderr = os.fdopen(2, "w")
        watch._lose("process 0 (pid 7 on far) of this run is gone")
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == (
            "error: process 0 (pid 7 on far) of this run is gone; the same command goes on from the last checkpoint\n"
        )
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_one_process_has_nobody_to_watch():
    assert peers._watch is None
    with peers.together():
        pass
    peers.leave(None)
