"""A signal waits for the end of an update, cuts a wait short, and comes through the second time."""

import os
import signal
import subprocess
import sys

import pytest

from groupwise.train.stop import Interrupted, Stop
from tests.project.sources import ROOT


def ending(work):
    """How work(stop) ended while the signals are listened to."""
    stop = Stop()
    with pytest.raises(BaseException) as error, stop.listening():  # noqa: PT011  the test says which
        work(stop)
    return error.value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cuts_a_wait_short(number):
    done = []

    def wait(stop):
        signal.raise_signal(number)
        done.append("waited")

    assert isinstance(ending(wait), Interrupted)
    assert done == []


def test_a_signal_in_an_update_waits_for_its_end():
    done = []

    def step(stop):
        with stop.guarded():
            signal.raise_signal(signal.SIGINT)
            done.append("update")
        done.append("next step")

    assert isinstance(ending(step), Interrupted)
    assert done == ["update"]


def test_an_error_in_an_update_is_not_hidden_by_the_signal():
    def step(stop):
        with stop.guarded():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    assert isinstance(ending(step), ZeroDivisionError)


def test_afterwards_the_handlers_are_those_of_before():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = Stop()
    with stop.listening():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_ends_the_process_even_in_an_update():
    code = (
        "import signal\n"
        "from groupwise.train.stop import Stop\n"
        "stop = Stop()\n"
        "with stop.listening(), stop.guarded():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('not here')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "still here\n")
