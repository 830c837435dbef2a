"""`python -m toumei` is the `toumei` command."""

from __future__ import annotations

from .cli import main

main(prog_name="toumei")
