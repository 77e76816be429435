"""Blocks know whether they run: left in order, by an exception, by being dropped, or with their thread."""

from __future__ import annotations

import contextvars
import gc
import threading

import pytest

from mlxtrace.anatomy.block import Block, ContextBlock, Lock, OpenBlocks, leaving

OPEN: OpenBlocks = OpenBlocks("blocks of these tests")


class Note(ContextBlock):
    """Writes down when it puts back what it changed."""

    def __init__(self, log=None, name="", within=None):
        super().__init__(within)
        self.log, self.name = [] if log is None else log, name

    def __enter__(self):
        self.enter()
        OPEN.add(self)
        OPEN.go_in(self)
        return self

    @leaving
    def __exit__(self, *error):
        self.abandon()

    def abandon(self):
        self.left = True
        OPEN.go_out(self)
        self.log.append(self.name)


def test_a_block_runs_from_entering_to_leaving():
    block = Note()
    assert not block.running
    with block:
        assert block.running and OPEN.here() is block and OPEN.running() == [block]
    assert not block.running and OPEN.here() is None and OPEN.running() == []
    assert len(block.log) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_leaves_it(error):
    block = Note()
    with pytest.raises(error), block:
        raise error
    assert not block.running and len(block.log) == 1


def test_the_statement_that_is_gone_has_left_it():
    """As when Ctrl-C falls into `__exit__` before its first line: it is looked up, and never called."""
    block = Note()
    statement = block.__exit__  # what a `with` statement holds
    block.__enter__()
    assert block.running
    del statement
    assert not block.running and block.left and len(block.log) == 1


def test_looking_at_exit_before_entering_by_hand_ends_nothing():
    block = Note()
    assert callable(block.__exit__)
    block.__enter__()
    assert block.running
    block.__exit__(None, None, None)
    assert not block.running


def test_a_block_that_is_dropped_is_abandoned():
    log = []

    class Plain(Block):  # which no context holds
        def abandon(self):
            log.append("dropped")

    block = Plain()
    block.enter()
    OPEN.add(block)
    assert OPEN.running() == [block]
    del block
    gc.collect()
    assert log == ["dropped"] and OPEN.running() == [] and OPEN.everywhere == ()


def test_a_block_ends_with_its_thread():
    made = []

    def work():
        made.append(Note())
        made[0].__enter__()
        assert made[0].running

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    assert not made[0].running and len(made[0].log) == 1


def test_a_block_cannot_outlive_the_one_it_is_within():
    with Note() as outer:
        inner = Note(within=outer)
        inner.__enter__()
        assert inner.running
    assert not inner.running
    with Note() as outer:
        inner = Note(within=outer)
        inner.__enter__()
        del outer
    assert not inner.running
    inner.abandon()


def test_the_innermost_that_runs_holds():
    first, second, third = Note(), Note(), Note()
    with first:
        second.__enter__()
        with third:
            assert OPEN.here() is third
            second.left = True  # out of order, as an interrupt may have it
        assert OPEN.here() is first
    assert OPEN.here() is None


def test_each_context_has_its_own_innermost():
    with Note() as here:
        context = contextvars.Context()
        assert context.run(OPEN.here) is None
        other = Note()
        other.enter()
        context.run(OPEN.set_here, other)
        assert context.run(OPEN.here) is other and OPEN.here() is here
        other.left = True


def test_a_lock_that_an_interrupted_thread_keeps_is_given_up():
    lock = Lock()
    thread = threading.Thread(target=lock.__enter__)  # and never leaves
    thread.start()
    thread.join()
    with lock, lock:  # re-entrant, and there after a second
        pass
    lock.__exit__()


def test_a_plain_block_must_say_what_it_puts_back():
    with pytest.raises(NotImplementedError):
        Block().abandon()
