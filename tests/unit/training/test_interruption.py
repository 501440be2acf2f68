"""Ctrl-C is noted once, raises the second time, and leaves other handlers alone."""

import os
import signal
import threading

import pytest

from arpo.training.interruption import delayed_interrupt


@pytest.fixture(autouse=True)
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_the_second_raises(capfd: pytest.CaptureFixture[str]):
    with delayed_interrupt() as interruption:
        assert not interruption.is_wanted
        press()
        assert interruption.is_wanted
        assert "a checkpoint is written" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            press()
    with pytest.raises(KeyboardInterrupt):
        press()


def test_the_handler_is_back_after_an_error():
    with pytest.raises(ZeroDivisionError), delayed_interrupt():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_caller_stays():
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    with delayed_interrupt() as interruption:
        press()
    assert pressed == [signal.SIGINT]
    assert not interruption.is_wanted


def test_another_thread_changes_nothing():
    found: list[bool] = []

    def work() -> None:
        with delayed_interrupt() as interruption:
            found.append(interruption.is_wanted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
