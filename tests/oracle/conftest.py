"""PyTorch is the oracle; where it isn't installed, there is nothing to compare with."""

from __future__ import annotations

import importlib.util

# Harnesses to be run as modules, without tests of their own.
collect_ignore = ["modules.py", "opinfo.py"]
if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["*.py"]
