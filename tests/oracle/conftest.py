"""PyTorch is the oracle; where it isn't installed, there is nothing to compare with."""

from __future__ import annotations

import importlib.util

# A harness to be run as a module, without tests of its own.
collect_ignore = ["opinfo.py"]
if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["*.py"]
