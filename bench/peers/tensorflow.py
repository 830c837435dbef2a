"""TensorFlow's side.  python -m bench.peers.tensorflow THREADS graph|xla

A step is one `tf.function`; xla: compiled by XLA (`jit_compile`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from bench.peers.layouts import converted, inputs_converted
from bench.peers.serve import Arrays, Step, serve, stay_on
from bench.peers.tensorflow_networks import LOSSES, Network, adversarial
from bench.workloads import WORKLOADS, Rule

Variables = dict[str, Any]


class TensorFlow:
    def __init__(self, threads: int, xla: bool) -> None:
        self.xla = xla
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)

    def versions(self) -> dict[str, str]:
        return {"tensorflow": tf.__version__, "numpy": np.__version__}

    def load(self, name: str, inputs: Arrays, weights: Arrays, dropout: bool) -> Step:
        variables = {
            key: tf.Variable(value, trainable="running_" not in key)
            for key, value in converted(name, weights).items()
        }
        given = {key: tf.constant(value) for key, value in inputs_converted(inputs).items()}
        optimizer = Optimizer(WORKLOADS[name].rule, variables)
        network = Network(variables, dropout, self.xla)
        step = make_step(name, network, optimizer)
        compiled = tf.function(step, jit_compile=self.xla, autograph=False)
        return lambda: list(compiled(**given))


def make_step(name: str, network: Network, optimizer: Optimizer) -> Callable[..., Any]:
    """Return a step of a workload: a function of its inputs; it returns the losses."""

    def plain(**inputs: Any) -> tuple[Any, ...]:
        weights = {k: v for k, v in network.weights.items() if v.trainable}
        with tf.GradientTape() as tape:
            loss = LOSSES[name](network, **inputs)
        optimizer.begin()
        optimizer.apply(tape.gradient(loss, weights))
        return (loss,)

    def game(**inputs: Any) -> tuple[Any, ...]:
        optimizer.begin()
        return adversarial(network, optimizer.apply, **inputs)

    return game if name == "W9" else plain


class Optimizer:
    """PyTorch's rules by TensorFlow's fused kernels, which pass through the memory once."""

    def __init__(self, rule: Rule, variables: Variables) -> None:
        self.rule, self.weights = rule, {k: v for k, v in variables.items() if v.trainable}
        moments = {"SGD": int("momentum" in rule.options)}.get(rule.kind, 2)
        self.moments = {
            k: [tf.Variable(tf.zeros_like(v), trainable=False) for _ in range(moments)]
            for k, v in self.weights.items()
        }
        self.count = tf.Variable(0.0, trainable=False)

    def begin(self) -> None:
        """Count a step."""
        self.count.assign_add(1.0)

    def apply(self, grads: dict[str, Any]) -> None:
        """Move the weights by their gradients."""
        move = self._sgd if self.rule.kind == "SGD" else self._adam
        for k, grad in grads.items():
            move(self.weights[k], self.moments[k], tf.convert_to_tensor(grad))

    def _sgd(self, weight: Any, moments: list[Any], grad: Any) -> None:
        options, lr = self.rule.options, self.rule.lr
        if decay := options.get("weight_decay", 0.0):
            grad = grad + decay * weight
        if not moments:
            weight.assign_sub(lr * grad)
            return
        tf.raw_ops.ResourceApplyMomentum(
            var=weight.handle, accum=moments[0].handle, lr=lr, grad=grad,
            momentum=options["momentum"],
        )  # fmt: skip

    def _adam(self, weight: Any, moments: list[Any], grad: Any) -> None:
        beta1, beta2 = self.rule.options.get("betas", (0.9, 0.999))
        if self.rule.kind == "AdamW":
            weight.assign(weight * (1 - self.rule.lr * self.rule.options.get("weight_decay", 0.01)))
        power1, power2 = beta1**self.count, beta2**self.count
        tf.raw_ops.ResourceApplyAdam(
            var=weight.handle, m=moments[0].handle, v=moments[1].handle,
            beta1_power=power1, beta2_power=power2, lr=self.rule.lr, beta1=beta1, beta2=beta2,
            epsilon=1e-8 * tf.sqrt(1 - power2),  # PyTorch adds it after the correction of v
            grad=grad,
        )  # fmt: skip


if __name__ == "__main__":
    count = int(sys.argv[1])
    stay_on(count)
    serve(lambda: TensorFlow(count, sys.argv[2] == "xla"))
