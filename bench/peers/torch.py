"""PyTorch's side.  python -m bench.peers.torch THREADS compiled|eager"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import jvp

from bench.peers import networks, training
from bench.peers.serve import Arrays, Step, serve, stay_on
from bench.workloads import BURGERS, WORKLOADS

# What makes PyTorch faster on a workload, and doesn't on the others; measured.
CHANNELS_LAST = {"W4"}
COMPILED_OPTIMIZER = {"W7"}
# Here the gradient of max-pool comes out as zero if the compiler chooses the layouts (2.13.0).
LAYOUTS_AS_THEY_ARE = {"W3"}


class Torch:
    def __init__(self, threads: int, compiled: bool) -> None:
        self.compiled = compiled
        torch.set_num_threads(threads)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__}

    def load(self, name: str, inputs: Arrays, weights: Arrays, dropout: bool) -> Step:
        torch.compiler.reset()
        model = networks.build(torch, name, dropout)
        model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        arrays = [torch.from_numpy(value) for value in inputs.values()]
        if name in CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
            arrays[0] = arrays[0].to(memory_format=torch.channels_last)
        step = self._step(name, model)
        return lambda: [loss.detach() for loss in step(*arrays)]

    def _step(self, name: str, model: Any) -> Callable[..., list[Any]]:
        rule = WORKLOADS[name].rule
        if name == "W9":
            parts = (model.generator, model.discriminator)
            optimizers = tuple(training.optimizer_of(torch, rule, p.parameters()) for p in parts)
            if self.compiled:
                model.generator.compile()
            of_d, of_g = (self._compile(name, f) for f in training.adversarial_losses(torch))
            return training.adversarial_step(of_d, of_g, model, optimizers)
        optimizer = training.optimizer_of(torch, rule, model.parameters())
        if self.compiled and name in COMPILED_OPTIMIZER:
            optimizer.step = torch.compile(optimizer.step)
        forward = self.compiled and name == "W5"  # nested `autograd.grad` doesn't compile
        loss = burgers_forward if forward else networks.loss_of(torch, name)
        return training.plain_step(model, self._compile(name, loss), optimizer)

    def _compile(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self.compiled:
            return function
        options = {"layout_optimization": False} if name in LAYOUTS_AS_THEY_ARE else None
        return torch.compile(function, options=options)


def burgers_forward(u: Any, x: Any, t: Any, edge: Any, value: Any) -> Any:
    """The PINN's loss, its derivatives by x and t taken forwards."""
    ones = torch.ones_like(x)

    def along_x(x: Any) -> Any:
        return jvp(lambda x: u(torch.cat([x, t], 1)), (x,), (ones,))

    (here, u_x), (_, u_xx) = jvp(along_x, (x,), (ones,))
    _, u_t = jvp(lambda t: u(torch.cat([x, t], 1)), (t,), (ones,))
    residual = u_t + here * u_x - BURGERS * u_xx
    return (residual**2).mean() + ((u(edge) - value) ** 2).mean()


if __name__ == "__main__":
    count = int(sys.argv[1])
    stay_on(count)
    serve(lambda: Torch(count, sys.argv[2] == "compiled"))
