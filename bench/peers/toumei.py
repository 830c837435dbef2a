"""Toumei's side.  python -m bench.peers.toumei THREADS compiled|eager"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np

import toumei as tm
from bench.peers import networks, training
from bench.peers.serve import Arrays, Step, serve, stay_on
from bench.workloads import WORKLOADS


def can_compile() -> bool:
    """Return whether this Toumei has a compiler."""
    return hasattr(tm, "compile")


class Toumei:
    def __init__(self, threads: int, compiled: bool) -> None:
        self.compiled = compiled and can_compile()
        if hasattr(tm, "set_num_threads"):
            tm.set_num_threads(threads)

    def versions(self) -> dict[str, str]:
        return {"toumei": tm.__version__, "numpy": np.__version__}

    def load(self, name: str, inputs: Arrays, weights: Arrays, dropout: bool) -> Step:
        model = networks.build(tm, name, dropout)
        model.load_state_dict({key: tm.from_numpy(value) for key, value in weights.items()})
        step = make_step(name, model)
        return partial(
            tm.compile(step) if self.compiled else step, *map(tm.from_numpy, inputs.values())
        )


def make_step(name: str, model: Any) -> Any:
    """Return the step of a workload, a function of its inputs."""
    rule = WORKLOADS[name].rule
    if name == "W9":
        pair = (model.generator.parameters(), model.discriminator.parameters())
        optimizers = tuple(training.optimizer_of(tm, rule, part) for part in pair)
        return training.adversarial_step(*training.adversarial_losses(tm), model, optimizers)
    optimizer = training.optimizer_of(tm, rule, model.parameters())
    return training.plain_step(model, networks.loss_of(tm, name), optimizer)


if __name__ == "__main__":
    count = int(sys.argv[1])
    stay_on(count)
    serve(lambda: Toumei(count, sys.argv[2] == "compiled"))
