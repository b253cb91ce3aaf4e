"""One damaged file is opened: it opens, or one documented error names it. Everything else is a fault of the reader."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness.damage import Mutation, damage

MEMORY = 1 << 30  # bytes that reading may take
SECONDS = 60  # after which it counts as hanging
_LONGEST = 60_000  # characters of a message


def _same(content: bytes) -> bytes:
    return content


def _nothing(opened: Any) -> None:
    pass


@dataclass(frozen=True)
class Format:
    """A kind of file.

    syntax: as `damage` takes it.
    error: the one that its reader documents, exactly this class.
    make: writes a valid file, with all that belongs to it, into an empty folder.
    open: the reader; use: what is done with what it gives, which has to work.
    unwrap, wrap: take out and put back the part that is damaged, such as a header within its checksum.
    """

    name: str
    syntax: str
    error: type[Exception]
    make: Callable[[Path], Path]
    open: Callable[[Path], Any]
    use: Callable[[Any], None] = _nothing
    unwrap: Callable[[bytes], bytes] = _same
    wrap: Callable[[bytes], bytes] = _same


class Escaped(AssertionError):
    """What a reader did other than to open a file or to refuse it. `kind` is the same for the same fault."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Trial:
    """The valid file of a format, to be damaged again and again."""

    def __init__(self, form: Format, folder: Path) -> None:
        self.form, self.folder = form, folder
        self.file = form.make(folder)
        self._valid = self.file.read_bytes()
        self._part = form.unwrap(self._valid)
        assert form.wrap(self._part), "the valid file is empty"

    def content(self, mutations: Sequence[Mutation]) -> bytes:
        """The file after these mutations."""
        return self.form.wrap(damage(self._part, self.form.syntax, mutations)) if mutations else self._valid

    def run(self, mutations: Sequence[Mutation]) -> bool:
        """Whether the damaged file opens. Raises Escaped where the reader does anything but open or refuse it."""
        return self.run_content(self.content(mutations))

    def run_content(self, content: bytes) -> bool:
        """As `run`, of a file with this content."""
        self.file.unlink()  # several times faster than truncating it
        self.file.write_bytes(content)
        before = _listing(self.folder)
        try:
            with _guarded():
                opened = self.form.open(self.file)
        except Exception as error:
            self._check_refusal(error)
            self._check_unwritten(before)
            return False
        self._check_unwritten(before)
        try:
            with _guarded():
                self.form.use(opened)
        except Exception as error:
            raise Escaped(f"in use: {_place(error)}", f"it opens, and is not fit for use: {_shown(error)}") from error
        return True

    def _check_refusal(self, error: Exception) -> None:
        text = str(error)
        if type(error) is not self.form.error:
            raise Escaped(_place(error), f"{self.form.error.__name__} is documented: {_shown(error)}") from error
        if self.file.name not in text:
            raise Escaped(f"nameless: {_place(error)}", f"the message does not name the file: {text[:500]}") from error
        if len(text) > _LONGEST:
            raise Escaped(f"long: {_place(error)}", f"a message of {len(text)} characters: {text[:500]}") from error
        try:
            text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise Escaped(f"unprintable: {_place(error)}", f"not to be printed: {ascii(text)[:500]}") from error
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise Escaped(f"memory: {_place(cause)}", f"it asks for more than {MEMORY} bytes: {text}") from error
            cause = cause.__cause__ or cause.__context__

    def _check_unwritten(self, before: dict[str, tuple[int, int]]) -> None:
        after = _listing(self.folder)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if changed:
            raise Escaped("written", f"reading wrote {', '.join(changed)}")


class Hanging(Exception):
    """It takes too long."""


@contextmanager
def _guarded() -> Iterator[None]:
    """Warnings are errors, and whatever takes too long ends."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        old = signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        if in_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)


def _interrupt(*_: object) -> None:
    raise Hanging(f"still reading after {SECONDS} s")


@contextmanager
def bounded_memory(size: int = MEMORY) -> Iterator[None]:
    """The process may grow by so many bytes and no more; what asks for more gets a MemoryError."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time."""
    found = {}
    for parent, _, files in os.walk(folder):
        for name in files:
            status = os.stat(os.path.join(parent, name))
            found[os.path.relpath(os.path.join(parent, name), folder)] = status.st_size, status.st_mtime_ns
    return found


def _place(error: BaseException) -> str:
    """The error's class, and where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/jaxdet" in frame.filename]
    last = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{last}"


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-3000:]
