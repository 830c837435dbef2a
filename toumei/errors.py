"""Every error that Toumei raises on purpose, and how it finds the user's line.

    ToumeiError
    ├── OpError       (RuntimeError)  an op was given arguments that it can't take
    │   ├── OpIndexError (IndexError) … an index or a dimension out of range
    │   └── OpTypeError  (TypeError)  … a dtype or a type that it can't take
    ├── GradError     (RuntimeError)  a derivative can't be had: graph freed, value overwritten …
    ├── AnomalyError  (RuntimeError)  debug mode met the first NaN or infinity
    ├── ModuleError   (RuntimeError)  a layer was built or used wrongly
    ├── TraceError    (RuntimeError)  a step can't be compiled as it is written
    ├── LoadError     (RuntimeError)  a file, or what it holds, doesn't fit
    │   └── DataError (…)             … a data set's file
    └── SaveError     (OSError)       a file could not be written; nothing was left half-written

Nothing here runs until something has failed.
"""

from __future__ import annotations

import functools
import linecache
import os
import sys
from types import CodeType, FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Models and recipes are read and changed like a user's own code: errors point into them.
_LIKE_USER_CODE = tuple(_PACKAGE + name + os.sep for name in ("models", "recipes"))


class ToumeiError(Exception):
    """The root of all errors that Toumei raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.modules: list[str] = []  # innermost first; Module.__call__ adds to it
        self.where = user_line()

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  at {self.where}")
        if self.modules:
            lines.append("  in " + ", in ".join(self.modules))
        return "\n".join(lines)


class OpError(ToumeiError, RuntimeError):
    """An op was given arguments that it can't take."""


class OpIndexError(OpError, IndexError):
    """An index or a dimension is out of range."""


class OpTypeError(OpError, TypeError):
    """An argument has a dtype or a type that the op can't take."""


class GradError(ToumeiError, RuntimeError):
    """A derivative can't be had."""


class AnomalyError(ToumeiError, RuntimeError):
    """Debug mode met the first NaN or infinity."""


class ModuleError(ToumeiError, RuntimeError):
    """A layer was built or used wrongly."""


class TraceError(ToumeiError, RuntimeError):
    """A step can't be compiled as it is written."""


class LoadError(ToumeiError, RuntimeError):
    """A file can't be read, or what it holds doesn't fit."""


class DataError(LoadError):
    """A data set's file is missing, cut short or damaged."""


class SaveError(ToumeiError, OSError):
    """A file could not be written; nothing was left half-written."""


def is_user_frame(frame: FrameType) -> bool:
    """Tell whether a frame belongs to the user rather than to the framework."""
    return is_user_code(frame.f_code)


def is_user_code(code: CodeType) -> bool:
    """Tell whether code is the user's rather than the framework's."""
    return _is_user_file(code.co_filename)


@functools.cache
def _is_user_file(name: str) -> bool:
    return not name.startswith(_PACKAGE) or name.startswith(_LIKE_USER_CODE)


def user_place() -> tuple[CodeType, int] | None:
    """Return the code and the line number of the innermost line of the user's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_user_file(frame.f_code.co_filename):
        frame = frame.f_back
    return None if frame is None else (frame.f_code, frame.f_lineno)


def line_text(place: tuple[CodeType, int] | None) -> str:
    """Write a place as "train.py:11 in forward:  return x @ w"."""
    if place is None:
        return ""
    code, line = place
    source = linecache.getline(code.co_filename, line).strip()
    text = f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}"
    return f"{text}:  {source}" if source else text


def user_line() -> str:
    """Return the text of the innermost line of the user's code."""
    return line_text(user_place())
