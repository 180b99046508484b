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


class Slow:
    """Job of some seconds that notes when it is done, and is then as fast as a job from the cache."""

    def __init__(self, folder, number):
        self.folder, self.number = folder, number

    def __call__(self):
        (self.folder / f"start-{self.number}-{time.time()}").touch()
        if not (self.folder / str(self.number)).exists():
            time.sleep(2)
            (self.folder / str(self.number)).touch()
        return self.number
