"""The background event loop of the blocking client, by itself: calls, the pump, and everything that ends them."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from inferencesh import InferenceError
from inferencesh._loops import loop_thread, threads
from inferencesh._loops.loop_thread import LoopThread, Pump
from tests.support import wait_until

spoken: ContextVar[str] = ContextVar("spoken", default="nothing")


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """A loop that is stopped after the test."""
    thread = LoopThread("loop under test")
    yield thread
    thread.stop(2)


async def value(given: object = "value") -> object:
    """A coroutine that returns what it is given, after a turn of the loop."""
    await asyncio.sleep(0)
    return given


async def endless(ended: list[str] | None = None) -> None:
    """A coroutine that ends by being cancelled, and says so."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        if ended is not None:
            ended.append("cancelled")


class Interruption(BaseException):
    """What is no Exception, like KeyboardInterrupt."""


class Waiting:
    """A blocking function on a thread of its own, so that one that never returns fails the test and not the run."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.outcome: object = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._function()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.outcome = error

    def end(self) -> object:
        """What it returned or raised."""
        self._thread.join(2)
        assert not self._thread.is_alive(), "it waits for ever"
        return self.outcome


class Held:
    """Holds a loop in the middle of its turn, so that what is scheduled meanwhile comes in one go."""

    def __init__(self, thread: LoopThread) -> None:
        self._go, held = threading.Event(), threading.Event()
        self._loop = thread.loop()
        self._before = 0  # the loop's own callbacks in this turn of it

        def hold() -> None:
            self._before = self._scheduled
            held.set()
            self._go.wait(5)

        self._loop.call_soon_threadsafe(hold)
        assert held.wait(5)

    def wait_until_scheduled(self, count: int) -> None:
        """Block until this many callbacks wait for the loop's next turn."""
        wait_until(lambda: self._scheduled - self._before >= count, "what the loop is to do next")

    @property
    def _scheduled(self) -> int:
        return len(getattr(self._loop, "_ready"))  # noqa: B009 - there is no public way to see it

    def release(self) -> None:
        """Let it go on."""
        self._go.set()


# -- calls -------------------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_coroutine_returns(thread: LoopThread) -> None:
    """It runs on the loop's thread, in the context of the caller."""
    spoken.set("here")

    async def look() -> tuple[str, str]:
        await asyncio.sleep(0)
        return spoken.get(), threading.current_thread().name

    assert thread.call(look()) == ("here", "loop under test")


def test_a_call_raises_what_the_coroutine_raises(thread: LoopThread) -> None:
    """The very exception, with the frames where it was raised; nothing keeps it alive afterwards."""
    error = ValueError("not today")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="not today") as caught:
        thread.call(fail())
    assert caught.value is error
    assert "fail" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit], ids=lambda error: error.__name__)
def test_what_ends_programs_does_not_end_the_loop(thread: LoopThread, error: type[BaseException]) -> None:
    """KeyboardInterrupt and the like inside a coroutine reach the caller; the loop goes on."""

    async def leave() -> None:
        raise error

    loop = thread.loop()
    with pytest.raises(error):
        thread.call(leave())
    assert thread.call(value()) == "value"
    assert thread.loop() is loop


def test_a_call_from_the_loops_own_thread_is_refused(thread: LoopThread) -> None:
    """It would wait for itself for ever; the coroutine is not left unawaited."""

    async def call_again() -> object:
        return thread.call(value())

    with pytest.raises(InferenceError, match="called from its own event loop"):
        thread.call(call_again())


def test_ctrl_c_cancels_the_call(thread: LoopThread) -> None:
    """KeyboardInterrupt is raised once the coroutine has cleaned up; the next call works."""
    ended: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in a job in the background it is ignored

    async def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        await endless(ended)

    try:
        with pytest.raises(KeyboardInterrupt):
            thread.call(interrupt())
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == ["cancelled"]
    assert thread.call(value()) == "value"


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_stopping_what_does_not_run(thread: LoopThread) -> None:
    """Nothing happens: before the first call, and twice in a row."""
    thread.stop()
    assert thread.call(value()) == "value"
    thread.stop()
    thread.stop()


def test_a_call_after_stop_starts_another_loop(thread: LoopThread) -> None:
    """The old one is closed, its thread gone."""
    first = thread.loop()
    thread.stop()
    assert first.is_closed()
    assert "loop under test" not in [each.name for each in threading.enumerate()]
    assert thread.call(value()) == "value"
    assert thread.loop() is not first


def test_a_call_after_close_is_refused(thread: LoopThread) -> None:
    """Close is for good; the coroutine is not left unawaited."""
    thread.call(value())
    thread.close()
    with pytest.raises(InferenceError, match="closed; make a new one"):
        thread.call(value())
    thread.close()


def test_stop_ends_a_call_that_waits(thread: LoopThread) -> None:
    """Its coroutine is cancelled and cleans up; the caller gets an error that says what happened."""
    ended: list[str] = []
    started = threading.Event()

    async def wait() -> None:
        started.set()
        await endless(ended)

    call = Waiting(lambda: thread.call(wait()))
    assert started.wait(5)
    thread.stop()
    outcome = call.end()
    assert isinstance(outcome, InferenceError)
    assert "closed while a call was under way" in str(outcome)
    assert ended == ["cancelled"]


def test_stop_ends_what_tasks_leave_behind(thread: LoopThread) -> None:
    """A task that another one starts while it is being cancelled is ended as well, and so is an async generator."""
    ended: list[str] = []

    async def generate() -> object:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def leave_another() -> None:
        generator = generate()
        await anext(generator)  # type: ignore[call-overload] # it is an async generator
        try:
            await endless()
        finally:
            task = asyncio.create_task(endless(ended))
            await asyncio.sleep(0)
            assert not task.done()
            ended.append("task")

    async def start() -> None:
        kept.append(asyncio.create_task(leave_another()))
        await asyncio.sleep(0)

    kept: list[asyncio.Task[None]] = []
    thread.call(start())
    thread.stop()
    assert sorted(ended) == ["cancelled", "generator", "task"]
    assert kept[0].cancelled()


def test_stop_from_the_loops_own_thread(thread: LoopThread) -> None:
    """It does not wait for itself."""

    async def stop() -> None:
        thread.stop()
        await endless()

    with pytest.raises(InferenceError):
        thread.call(stop())
    wait_until(lambda: "loop under test" not in [each.name for each in threading.enumerate()], "the end of the thread")


def test_stop_ends_a_call_that_has_not_begun(thread: LoopThread) -> None:
    """Call and stop reach the loop in the same turn: the caller is not forgotten."""
    held = Held(thread)
    call = Waiting(lambda: thread.call(value()))
    held.wait_until_scheduled(1)
    stop = Waiting(thread.stop)
    held.wait_until_scheduled(2)
    held.release()
    outcome = call.end()
    assert outcome == "value" or isinstance(outcome, InferenceError)
    assert stop.end() is None


def test_a_call_that_meets_a_stop_half_way(thread: LoopThread) -> None:
    """It has got its loop, which is stopped before anything is scheduled there: an error or a result, not silence."""
    got, go = threading.Event(), threading.Event()
    loop_of = thread.loop

    def slow_loop() -> asyncio.AbstractEventLoop:
        loop = loop_of()
        got.set()
        assert go.wait(5)
        return loop

    thread.call(value())
    thread.loop = slow_loop  # type: ignore[method-assign] # to stand still between two steps
    call = Waiting(lambda: thread.call(value()))
    assert got.wait(5)
    thread.stop()
    go.set()
    outcome = call.end()
    thread.loop = loop_of  # type: ignore[method-assign] # as above
    assert outcome == "value" or isinstance(outcome, InferenceError)


def test_a_call_that_comes_while_the_loop_is_being_closed(thread: LoopThread) -> None:
    """The loop has ended its tasks and is not closed yet: the caller is not forgotten."""
    got, closing, scheduled = threading.Event(), threading.Event(), threading.Event()
    loop_of = thread.loop

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:  # closed after the last task has ended
            closing.set()
            scheduled.wait(0.5)  # or not, where nothing can be scheduled any more

    async def begin() -> AsyncIterator[int]:
        generator = generate()
        await anext(generator)
        return generator

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "value"

    def slow_loop() -> asyncio.AbstractEventLoop:
        loop = loop_of()
        got.set()
        assert closing.wait(5)
        thread.loop = loop_of  # type: ignore[method-assign] # as below
        return loop

    def call() -> str:
        threading.Timer(0.1, scheduled.set).start()
        return thread.call(slow())

    kept = thread.call(begin())
    thread.loop = slow_loop  # type: ignore[method-assign] # to stand still between two steps
    calling = Waiting(call)
    assert got.wait(5)
    stopping = Waiting(thread.stop)
    outcome = calling.end()
    assert outcome == "value" or isinstance(outcome, InferenceError)
    assert stopping.end() is None
    del kept


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interruption_while_a_call_is_being_scheduled(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Right before the loop has the coroutine or right after: it is closed, or cancelled by the loop, never both."""
    ended: list[str] = []
    hand_over = threads.hand_over
    strikes = [Interruption]

    def interrupted(*arguments: Any) -> bool:
        if not strikes:
            return hand_over(*arguments)
        strike = strikes.pop()
        if moment == "before":
            raise strike
        hand_over(*arguments)
        for _ in range(100_000):  # long enough for the loop to be in the middle of it
            if ended:
                break
        raise strike

    async def work() -> None:
        ended.append("begun")
        try:
            await endless(ended)
        except GeneratorExit:
            ended.append(f"closed by {threading.current_thread().name}")
            raise

    thread.call(value())
    monkeypatch.setattr(loop_thread, "hand_over", interrupted)
    coroutine = work()
    with pytest.raises(Interruption):
        thread.call(coroutine)
    assert ended in ([], ["begun", "cancelled"])
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert thread.call(value()) == "value"


# -- the pump ----------------------------------------------------------------------------------------------------------


class Source:
    """A source of batches that counts how often it is asked."""

    def __init__(self, *batches: list[int]) -> None:
        self._batches = iter(batches)
        self.asked = 0

    async def __call__(self) -> list[int]:
        self.asked += 1
        await asyncio.sleep(0)
        return next(self._batches, [])


@pytest.fixture
def pump(thread: LoopThread) -> Pump[int]:
    """A pump over the loop, without a source."""
    return Pump(thread)


def test_batches_come_in_order_until_the_empty_one(pump: Pump[int]) -> None:
    """And the end can be taken as often as one likes, at once."""
    pump.source = Source([1, 2], [3])
    assert [pump.take() for _ in range(20)] == [[1, 2], [3], *[[]] * 18]


def test_the_source_is_asked_for_what_is_wanted_only(pump: Pump[int], thread: LoopThread) -> None:
    """A consumer that does not take holds the source back."""
    source = pump.source = Source([1], [2], [3])
    assert pump.take() == [1]
    for _ in range(5):
        thread.call(value())
    assert source.asked == 1


def test_an_error_of_the_source_is_raised_once(pump: Pump[int]) -> None:
    """Then the source is asked anew."""
    error = ValueError("broken")
    outcomes: Iterator[ValueError | list[int]] = iter([error, [1]])

    async def source() -> list[int]:
        outcome: ValueError | list[int] = next(outcomes, [])
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    pump.source = source
    with pytest.raises(ValueError, match="broken") as caught:
        pump.take()
    assert caught.value is error
    assert pump.take() == [1]
    assert pump.take() == []


def test_calls_are_made_on_the_consumers_thread(pump: Pump[int]) -> None:
    """Several before one batch; what they return and raise goes back to the loop."""
    seen: list[object] = []

    def name() -> str:
        return threading.current_thread().name

    def fail() -> None:
        raise ValueError("not today")

    async def source() -> list[int]:
        seen.append(await pump.call_blocking(name))
        with pytest.raises(ValueError, match="not today"):
            await pump.call_blocking(fail)
        return [1]

    pump.source = source
    assert pump.take() == [1]
    assert seen == [threading.current_thread().name]


def test_a_call_that_is_not_wanted_any_more_is_not_made(pump: Pump[int], thread: LoopThread) -> None:
    """Cancelled by the loop's side before the consumer came to it."""
    made: list[str] = []

    async def source() -> list[int]:
        task = asyncio.create_task(pump.call_blocking(lambda: made.append("made")))
        await asyncio.sleep(0)
        task.cancel()
        return [1]

    held = Held(thread)
    pump.source = source
    taken = Waiting(pump.take)
    held.release()
    assert taken.end() == [1]
    assert made in ([], ["made"])  # either, but never after the cancellation was seen
    thread.call(value())
    assert pump.take() == [1]


def interrupt() -> None:
    """A call of the user's that is interrupted."""
    raise Interruption


def test_a_call_that_nobody_waits_for_is_made_by_the_next_who_does(pump: Pump[int], thread: LoopThread) -> None:
    """The source has failed, what it had begun goes on and wants a call made: it is, and does not wait for ever."""
    outcomes: list[object] = []
    begun: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def later() -> None:
        await go.wait()
        outcomes.append(await pump.call_blocking(lambda: "made"))

    async def failing() -> list[int]:
        begun.append(asyncio.create_task(later()))
        raise ValueError("not today")

    async def source() -> list[int]:
        await asyncio.wait_for(begun[0], 5)
        return [1]

    pump.source = failing
    with pytest.raises(ValueError, match="not today"):
        pump.take()

    async def let_it_go() -> None:
        go.set()
        for _ in range(5):
            await asyncio.sleep(0)

    thread.call(let_it_go())
    pump.source = source
    assert Waiting(pump.take).end() == [1]
    assert outcomes == ["made"]


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_whatever_interrupts_a_take_cancels_the_source(
    pump: Pump[int], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """An Exception too, as signal handlers raise them."""
    ended: list[str] = []
    started = threading.Event()

    async def source() -> list[int]:
        started.set()
        await endless(ended)
        return []

    def interrupted(*_: object) -> None:
        assert started.wait(5)
        raise error

    pump.source = source
    monkeypatch.setattr(loop_thread, "wait_for", interrupted)
    with pytest.raises(error):
        pump.take()
    assert ended == ["cancelled"]


def test_an_interrupted_call_leaves_nothing_for_the_next_batch(pump: Pump[int]) -> None:
    """Two calls wait, the first is interrupted: the source is cancelled, and the consumer can start over."""
    calls = [interrupt, interrupt]

    async def source() -> list[int]:
        if not calls:
            return [1]
        waiting = [asyncio.ensure_future(pump.call_blocking(call)) for call in calls]
        calls.clear()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        raise AssertionError

    pump.source = source
    with pytest.raises(Interruption):
        pump.take()
    assert [pump.take() for _ in range(3)] == [[1]] * 3


def test_stop_ends_a_take_that_waits(pump: Pump[int], thread: LoopThread) -> None:
    """Its consumer gets an error that says what happened."""
    started = threading.Event()

    async def source() -> list[int]:
        started.set()
        await endless()
        raise AssertionError

    pump.source = source
    taken = Waiting(pump.take)
    assert started.wait(5)
    thread.stop()
    outcome = taken.end()
    assert isinstance(outcome, InferenceError)
    assert "closed while this stream was open" in str(outcome)


@pytest.mark.parametrize("taken_before", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("ending", ["cancel", "stop"])
def test_an_end_that_meets_a_take(pump: Pump[int], thread: LoopThread, ending: str, taken_before: bool) -> None:
    """Both reach the loop in the same turn: the consumer is not forgotten."""
    pump.source = Source([1], [2])
    if taken_before:
        assert pump.take() == [1]
    held = Held(thread)
    taken = Waiting(pump.take)
    steps = 1 if taken_before else 2
    held.wait_until_scheduled(steps)
    end = Waiting(pump.cancel if ending == "cancel" else thread.stop)
    if ending == "cancel" and not taken_before:  # then it never begins, and there is nothing for the loop to do
        end.end()
    else:
        held.wait_until_scheduled(steps + 1)
    held.release()
    outcome = taken.end()
    assert isinstance(outcome, InferenceError | list)
    assert end.end() is None


def test_a_cancel_at_the_very_beginning_ends_the_take(
    pump: Pump[int], thread: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread cancels when the task has been asked for and the consumer does not wait yet."""
    pump.source = Source([1], [2])
    spawn = thread.spawn

    def spawn_and_cancel(coroutine: Any) -> object:
        task = spawn(coroutine)
        pump.cancel()
        return task

    monkeypatch.setattr(thread, "spawn", spawn_and_cancel)
    assert Waiting(pump.take).end() == []


def test_a_pump_goes_on_after_a_restart_of_its_loop(pump: Pump[int], thread: LoopThread) -> None:
    """The source is asked on the new loop."""
    pump.source = Source([1], [2])
    assert pump.take() == [1]
    thread.stop()
    assert pump.take() == [2]


@pytest.mark.parametrize("broken", [False, True], ids=["ended", "broken"])
def test_a_take_right_behind_the_last_one_does_not_wait_for_a_task_that_is_over(
    thread: LoopThread, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """The task has said its last word and has not returned yet: the consumer knows better than its state."""
    run, go = Pump[int]._run, threading.Event()

    async def slow_to_return(self: Pump[int], *arguments: Any) -> None:
        await run(self, *arguments)
        while not go.is_set():  # noqa: ASYNC110 - it is set by a thread
            await asyncio.sleep(0)

    async def source() -> list[int]:
        if broken:
            raise ValueError("broken")
        return []

    monkeypatch.setattr(Pump, "_run", slow_to_return)
    pump: Pump[int] = Pump(thread)
    pump.source = source
    outcomes = [Waiting(pump.take).end(), Waiting(pump.take).end()]
    go.set()
    assert all(isinstance(outcome, ValueError) if broken else outcome == [] for outcome in outcomes)
