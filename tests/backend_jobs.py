"""Jobs for the tests of backends. Worker processes import this module, so it imports nothing large."""

import os
import threading
import time


class Square:
    """A job that returns the square of its number."""

    def __init__(self, number):
        self.number = number

    def __call__(self):
        return self.number**2


class Killer:
    """A job that kills its process the first time, or every time if `always` is true."""

    def __init__(self, flag, always=False):
        self.flag, self.always = flag, always

    def __call__(self):
        if self.always or not self.flag.exists():
            self.flag.touch()
            os._exit(13)
        return "survived"


class ThreadNames:
    """A job that returns the names of the threads of its process."""

    def __call__(self):
        return [thread.name for thread in threading.enumerate()]


class WorkerProcess:
    """A job of a moment that returns the number of its process."""

    def __call__(self):
        time.sleep(0.2)
        return os.getpid()
