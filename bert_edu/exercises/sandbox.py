"""Runs an answer where it can do no harm, and brings back what it returned, or in words what went wrong.

On Linux, Colab included, the answer runs in a forked child of this process: it has all that the notebook
has, needs no file and no import, and can be ended whatever it does. A child that is forked after PyTorch has
used its threads waits for them for ever, unless it is told at once to use one thread; so that is its first
act, and if it does not report within `READY` seconds all the same, the answer runs here instead. So it does
on other systems, where forking is not safe. There a second thread stops an answer that takes too long. That
works for a loop in Python, not for one inside a library.

What comes back is data: tensors, numbers, strings, and lists and dicts of them, read with PyTorch's loader
for data. Nothing that an answer returns is ever run by the process that judges it. All this is against
accidents. It is no prison: an answer can read files, and whoever means harm can get round it.
"""

import contextlib
import ctypes
import faulthandler
import importlib.util
import io
import linecache
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

SECONDS = 4.0  # for all calls of one check together
READY = 2.0  # seconds that a child may take to say that it can compute
MEMORY = 1 << 30  # bytes that an answer may use
PRINTED = 1 << 20  # characters that it may print
RETURNED = 4 << 20  # bytes that it may return

PACKAGE = Path(__file__).parents[1]


class Wrong(Exception):
    """What is wrong with an answer, in words for the person who wrote it."""


class NotYet(Wrong):
    """There is no answer so far."""


class Raised(Wrong):
    """The answer raised an exception."""


class TooLong(Wrong):
    """The answer was still running when its time was up."""


class Answer:
    """A learner's answer, at arm's length: call it like a function, and it runs in the child.

    Args:
        load: gives the answer; called in the child, within the limits.
        finished: what it must not call: dotted names of functions, classes or modules, which stand for all
            that is in them ("bert_edu.attention.scaled_dot_product_attention", "transformers").
        operations: PyTorch's operations that it must not use, by name ("softmax").
        seconds: for all calls together.

    Attributes:
        used: names of forbidden things that the answer has called.
        changed: positions of the arguments that it has changed in place.
        printed: how many characters it has printed.

    Use it in a `with` statement, which ends the child.
    """

    def __init__(
        self,
        load: Callable,
        *,
        finished: Iterable[str] = (),
        operations: Iterable[str] = (),
        seconds: float = SECONDS,
    ):
        self._work = Work(load, tuple(finished), frozenset(operations))
        self._seconds = self._left = seconds
        self._gone: Wrong | None = None
        self.used: set[str] = set()
        self.changed: set[int] = set()
        self.printed = 0

    def __enter__(self) -> "Answer":
        self._place = Child(self._work) if forking_is_safe() else Here(self._work)
        if not self._place.ready():
            self._place.close()
            self._place = Here(self._work)
        return self

    def __exit__(self, *error):
        self._place.close()

    def __call__(self, *arguments, seconds: float | None = None):
        """answer(*arguments), as data.

        Args:
            seconds: less time than is left for the whole check.

        Raises:
            Wrong: when the answer fails; the message says how.
        """
        return self.via(call, *arguments, seconds=seconds)

    def via(self, driver: Callable, *arguments, seconds: float | None = None):
        """driver(answer, *arguments), run in the child: for an answer that is a class, or takes a model.

        Args:
            driver: a function of a module, which returns data.
        """
        if self._gone:
            raise self._gone
        start = self._place.clock()
        try:
            reply = self._place.ask(driver, arguments, min(self._left, seconds or self._left))
        except TimeoutError:
            self._gone = TooLong(
                f"Your answer was stopped: it was still running when its time was up, {self._seconds:g} "
                f"seconds for all of a check. Is there a loop that never ends?"
            )
        except Wrong as wrong:
            self._gone = wrong
        if self._gone:  # and with it all that the answer knew
            raise self._gone
        self._left = max(self._left - (self._place.clock() - start), 0.01)
        self.used.update(reply["used"])
        self.changed.update(reply["changed"])
        self.printed = reply["printed"]
        if "kind" in reply:
            raise KINDS[reply["kind"]](reply["message"])
        return reply["value"]


def call(answer, *arguments):
    """The driver for an answer that is a function."""
    return answer(*arguments)


def each(answer, cases: list[tuple]) -> list:
    """A driver that calls a function for each of many cases, in one go."""
    return [answer(*arguments) for arguments in cases]


def forking_is_safe() -> bool:
    """Whether a child can be forked while libraries have threads: on Linux, with care; not on macOS."""
    return sys.platform == "linux"


# ---- In the child ------------------------------------------------------------------------------------------


class Work:
    """What runs beside the answer: loads it, calls it, watches what it calls and what it changes."""

    def __init__(self, load: Callable, finished: tuple[str, ...], operations: frozenset[str]):
        self.load, self.finished, self.operations = load, finished, operations
        self.loaded = False
        self.sink = Sink()

    def do(self, request: bytes) -> bytes:
        """One call: a pickled (driver, arguments) in; a reply, as data, out."""
        driver, arguments = pickle.loads(request)
        before = pickle.loads(request)[1]
        watch = Watch(self.finished, self.operations)
        reply = {}
        try:
            with contextlib.redirect_stdout(self.sink), contextlib.redirect_stderr(self.sink), fresh_state():
                if not self.loaded:
                    self.answer, self.loaded = self.load(), True
                with watch:
                    value = driver(self.answer, *arguments)
                reply["value"] = as_data(value)
        except Wrong as wrong:
            reply |= {"kind": type(wrong).__name__, "message": str(wrong)}
        except OutOfTime:
            raise
        except BaseException as error:  # also SystemExit, and KeyboardInterrupt if the answer raises it
            kind, message = what_was_raised(error)
            reply |= {"kind": kind, "message": message}
        changed = [place for place, pair in enumerate(zip(before, arguments)) if not same(*pair)]
        reply |= {"used": sorted(watch.used), "changed": changed, "printed": self.sink.count}
        return written(reply)


class Watch(TorchFunctionMode):
    """Notices what is called while it is on, however it was imported.

    PyTorch tells a function mode about each of its operations. Python tells a profiling function about each
    function of Python's that starts; where its code came from says what it is, under any name.
    """

    def __init__(self, finished: tuple[str, ...], operations: frozenset[str]):
        super().__init__()
        self.finished, self.operations, self.used = finished, operations, set()
        self.names = {}  # of functions, by their code: working one out takes time

    def __enter__(self):
        self.before = sys.getprofile()
        if self.finished:
            sys.setprofile(self.look_at_call)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        sys.setprofile(self.before)

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = getattr(function, "__name__", "").lstrip("_").removeprefix("special_").split(".")[0]
        if name in self.operations:
            self.used.add(f"PyTorch's {name}")
        return function(*arguments, **(keywords or {}))

    def look_at_call(self, frame, event, argument):
        if event == "c_call":  # a method of a library that is not written in Python
            library = type(getattr(argument, "__self__", None)).__module__ + "."
            self.used.update(name for name in self.finished if library.startswith(name + "."))
        if event != "call":
            return
        code = frame.f_code
        if code not in self.names:
            self.names[code] = f"{module_of(frame)}.{code.co_qualname}."
        self.used.update(name for name in self.finished if self.names[code].startswith(name + "."))


def module_of(frame) -> str:
    """The dotted name of the module that a frame's code is from; in this package, by its file."""
    file = Path(frame.f_code.co_filename)
    if file.is_relative_to(PACKAGE):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")
    return frame.f_globals.get("__name__", "")


@contextlib.contextmanager
def fresh_state():
    """PyTorch's defaults and a seed: an answer depends on nothing that ran before, nor does what follows."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)
        torch.set_default_dtype(torch.float32)
        if device.type != "cpu":
            torch.set_default_device("cpu")
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            if device.type != "cpu":
                torch.set_default_device(device)


class Sink(io.TextIOBase):
    """Takes what an answer prints, counts it, and forgets it; beyond `PRINTED` it complains."""

    count = 0

    def writable(self):
        return True

    def write(self, text):
        self.count += len(text)
        if self.count > PRINTED:
            raise Wrong(f"Your answer has printed more than {PRINTED:,} characters: take out its prints.")
        return len(text)


def written(reply: dict) -> bytes:
    """A reply as bytes; one that is too long becomes a complaint."""
    stream = io.BytesIO()
    torch.save(reply, stream)
    if stream.tell() > RETURNED:
        return written(
            {**reply, "value": None, "kind": "Wrong", "message": "Your answer returned far too much."}
        )
    return stream.getvalue()


def as_data(value):
    """The value with its tensors cut loose from their graph; `Wrong` if it is not data."""
    if isinstance(value, torch.Tensor):
        if value.numel() * value.element_size() > RETURNED:
            raise Wrong(f"Your answer returned a tensor of shape {tuple(value.shape)}: far too large.")
        return value.detach().cpu().resolve_conj().resolve_neg().clone().as_subclass(torch.Tensor)
    if value is None:
        return value
    for kind in (bool, int, float, str):
        if isinstance(value, kind):  # NumPy's float64 is a float too
            return kind(value)
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(map(as_data, value))
    if isinstance(value, dict):
        return {as_data(key): as_data(entry) for key, entry in value.items()}
    if value is Ellipsis or value is NotImplemented:
        raise NotYet(f"It returns {value!r}.")
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise Wrong(
        f"Your answer returned an object of type {kind}, where tensors, numbers or text are expected."
    )


def what_was_raised(error: BaseException) -> tuple[str, str]:
    """An exception in one or two sentences, with the learner's line that raised it."""
    if isinstance(error, NotImplementedError):  # a module without a `forward` does so too
        return "NotYet", "It raises NotImplementedError."
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "Wrong", f"Your answer wants more than {MEMORY >> 20:,} MB of memory, where little is enough."
    if isinstance(error, ModuleNotFoundError):
        return "Wrong", (
            f"Your answer imports {error.name}, which is not installed here: do without it, the exercise "
            "needs nothing but PyTorch and this book."
        )
    first_line = text.splitlines()[0] if text else ""
    said = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    where = ""
    for entry in reversed(traceback.extract_tb(error.__traceback__)):
        if is_learners(entry.filename):
            line = linecache.getline(entry.filename, entry.lineno).strip()
            where = f" Line {entry.lineno}{': `' + line + '`' if line else ''}."
            break
    return "Raised", f"Your answer raised {said[:300].rstrip('.')}.{where}"


def is_learners(file: str) -> bool:
    """Whether a file is neither this package's nor an installed library's."""
    path = Path(file)
    return not (path.is_relative_to(PACKAGE) or "site-packages" in path.parts or "<frozen" in file)


def same(one, other) -> bool:
    """Whether two arguments are equal: data, and collections of it. Models and functions are not compared."""
    if isinstance(one, torch.Tensor):
        equal = isinstance(other, torch.Tensor) and one.shape == other.shape and one.dtype == other.dtype
        return equal and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other if isinstance(one, (int, float, str, set)) else True


# ---- Where the work is done --------------------------------------------------------------------------------


class Child:
    """A forked copy of this process that does the work, one call at a time."""

    def __init__(self, work: Work):
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, work), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of forking beside threads; see above
            self.process.start()
        theirs.close()

    def ready(self) -> bool:
        try:
            return self.replies_within(READY) and self.connection.recv_bytes() == b"ready"
        except EOFError:
            return False

    def replies_within(self, seconds: float) -> bool:
        """Whether a reply comes in time."""
        end = self.clock() + seconds
        while (left := end - self.clock()) > 0:
            if self.connection.poll(left):
                return True
        return False

    def clock(self) -> float:
        """Seconds, less those in which the child was ready to run and a busy machine ran others instead."""
        try:
            waited = int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):  # not every kernel keeps count
            waited = 0.0
        return time.monotonic() - waited

    def ask(self, driver: Callable, arguments: tuple, seconds: float) -> dict:
        try:
            self.connection.send_bytes(pickle.dumps((driver, arguments)))
            if self.replies_within(seconds):
                return read_reply(self.connection.recv_bytes(2 * RETURNED))
        except (EOFError, OSError):
            self.process.join(1)
            code = self.process.exitcode
            self.close()
            how = f"it crashed, signal {-code}" if code and code < 0 else f"exit code {code}"
            raise Wrong(f"Your answer ended Python itself ({how}); it should return its result.") from None
        self.close()
        raise TimeoutError

    def close(self):
        self.process.kill()
        self.process.join()
        self.connection.close()


def serve(connection, work: Work):
    """What the child does until it is ended."""
    torch.set_num_threads(1)  # the threads of the parent are not here; see above
    torch.ones(64, 64) @ torch.ones(64, 64)
    silence()
    limit_memory()
    try:
        torch.zeros(1, requires_grad=True).sum().backward()
    except RuntimeError:  # on a machine with a GPU, after any backward pass of the parent's
        return
    connection.send_bytes(b"ready")
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:  # the parent is gone
            return
        connection.send_bytes(work.do(request))


def silence():
    """Sends to nowhere what is written past Python's print, and lets nothing be read from the keyboard."""
    faulthandler.disable()  # it would write to a copy of them
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def limit_memory():
    """Lets this process have `MEMORY` bytes more than it has now."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or limit < most:
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))


class OutOfTime(BaseException):
    """Raised inside an answer from outside, where there is no child to end."""


class Here:
    """Does the work in this thread, with another one that watches the clock."""

    def __init__(self, work: Work):
        self.work = work

    def ready(self) -> bool:
        return True

    def clock(self) -> float:
        return time.monotonic()

    def ask(self, driver: Callable, arguments: tuple, seconds: float) -> dict:
        request = pickle.dumps((driver, arguments))  # a copy, as the child would get it
        mine, finished = ctypes.c_ulong(threading.get_ident()), threading.Event()

        def watch_the_clock():
            if not finished.wait(seconds):
                while not finished.wait(0.2):  # again and again: an answer may catch it
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(mine, ctypes.py_object(OutOfTime))

        clock = threading.Thread(target=watch_the_clock, daemon=True)
        clock.start()
        try:
            try:
                return read_reply(self.work.do(request))
            finally:
                finished.set()
                clock.join()
                for _ in range(2):  # Python looks for such an exception when a loop starts again: a late one
                    pass  # is raised here. (To take it back would leave 3.11 looking for it for ever.)
        except OutOfTime:
            raise TimeoutError from None

    def close(self):
        pass


def read_reply(written: bytes) -> dict:
    """A reply from its bytes, with the loader that makes data and runs nothing."""
    try:
        return torch.load(io.BytesIO(written), weights_only=True)
    except Exception as error:  # the loader raises many kinds; they all mean the same
        raise Wrong("What your answer returned cannot be read.") from error


KINDS = {kind.__name__: kind for kind in (Wrong, NotYet, Raised, TooLong)}


def load_file(file: str | Path, name: str):
    """Runs a Python file and returns what it calls `name`."""
    spec = importlib.util.spec_from_file_location("answer", file)
    module = sys.modules["answer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        defined = ", ".join(entry for entry in vars(module) if not entry.startswith("_")) or "nothing"
        raise Wrong(f"{Path(file).name} does not define {name}; it defines {defined}.")
    return getattr(module, name)
