"""How threads wait for each other. To be said before torch is loaded."""

import os


def let_threads_wait() -> None:
    """Threads that wait at a barrier spin for some microseconds and then sleep, unless the environment says otherwise.

    Sleeping at once halves the speed of sampling, and long spinning makes two busy processes on two cores several times
    slower (docs/performance.md). Read once, when torch loads the OpenMP library.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
