"""Stop signals."""

import os
import signal

import pytest

from processing_rrsis.training.stopping import StopNow, StopRequest, ignore_in_worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_remembered_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with StopRequest.listening() as request:
        assert request.signal_number == 0
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler may send both
        assert request.signal_number == signal.SIGTERM
        assert request.exit_code == 0
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_ends_at_once():
    with StopRequest.listening() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.exit_code == 130
        with pytest.raises(StopNow) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
        assert stopped.value.code == 130


def test_where_all_is_saved_a_signal_ends_at_once():
    with StopRequest.listening() as request:
        with pytest.raises(StopNow) as stopped, request.immediately():
            os.kill(os.getpid(), signal.SIGTERM)
        assert (stopped.value.code, stopped.value.signal_name) == (0, "SIGTERM")
        reached = []
        with pytest.raises(StopNow), request.immediately():  # it came before
            reached.append("inside")
        assert not reached


def test_workers_leave_signals_to_their_parent():
    before = signal.getsignal(signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        ignore_in_worker(0)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_what_is_forked_is_ended_by_signals_where_the_process_would_end():
    """Else a pool waits for ever for a worker that missed its SIGTERM."""

    def handler_in_child():
        child = os.fork()
        if child == 0:
            os._exit(int(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL))
        return bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with StopRequest.listening() as request:
        assert not handler_in_child()
        with request.immediately():
            assert handler_in_child()
            assert signal.getsignal(signal.SIGTERM) == request._receive
        assert not handler_in_child()
