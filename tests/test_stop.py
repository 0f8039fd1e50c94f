"""A signal waits for the end of an update or cuts a wait short; a second ends a gradient, a third the process."""

import os
import signal
import subprocess
import sys

import pytest

from groupwise.stop import ASKING, Interrupted, Stop
from tests.project.sources import ROOT


def ending(work):
    """How work(stop) ended while the signals are listened to."""
    stop = Stop()
    with pytest.raises(BaseException) as error, stop.listening():  # noqa: PT011  the test says which
        work(stop)
    return error.value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
    before = tuple(map(signal.getsignal, ASKING))
    stop = Stop()
    with stop.listening():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert tuple(map(signal.getsignal, ASKING)) == before


def test_a_second_signal_ends_what_may_be_abandoned_and_nothing_else():
    done = []

    def step(stop):
        with stop.guarded("step 3"):
            signal.raise_signal(signal.SIGINT)
            with stop.abandonable():
                done.append("gradient")
            signal.raise_signal(signal.SIGINT)  # weights change here
            done.append("update")
            with stop.abandonable():
                done.append("another gradient")

    assert isinstance(ending(step), Interrupted)
    assert done == ["gradient", "update"]


def test_a_second_signal_in_a_gradient_ends_it_at_once():
    done = []

    def step(stop):
        with stop.guarded(), stop.abandonable():
            signal.raise_signal(signal.SIGTERM)
            done.append("goes on")
            signal.raise_signal(signal.SIGHUP)
            done.append("not here")

    assert isinstance(ending(step), Interrupted)
    assert done == ["goes on"]


def test_what_will_happen_is_said_at_once(capsys):
    def step(stop):
        with stop.guarded("step 7"):
            signal.raise_signal(signal.SIGINT)
            assert "stopping: finishes step 7, then saves (once more: stop at once" in capsys.readouterr().err

    ending(step)


def test_nohup_keeps_a_lost_terminal_from_ending_the_run():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop().listening():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_while_weights_change_leaves_them_torn():
    stop = Stop()
    with pytest.raises(MemoryError), stop.changing():
        raise MemoryError
    assert (stop.torn, stop.changed) == (True, False)
    with stop.changing():
        pass
    assert (stop.torn, stop.changed) == (False, True)


def test_a_third_signal_ends_the_process_even_in_an_update():
    code = (
        "import signal\n"
        "from groupwise.stop import Stop\n"
        "stop = Stop()\n"
        "with stop.listening(), stop.guarded():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('not here')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "still here\n")
