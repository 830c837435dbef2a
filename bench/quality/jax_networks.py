"""JAX's twins of the recipes mlp, cnn and gpt: functions of weights by Toumei's names.

Linear weights are (in, out), those of convolutions (h, w, in, out), images NHWC.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from bench.peers.jax_networks import (
    Key,
    Tree,
    attend,
    batch_norm,
    conv,
    cross_entropy,
    dropout,
    layer_norm,
    linear,
    max_pool,
    part,
    split,
)

from .jax_side import JaxSide
from .side import Array, Arrays, Setup

Found = tuple[Any, tuple[Tree, Tree]]


def make(rung: str, setup: Setup) -> JaxSide:
    return {"mlp": _mlp, "cnn": _cnn, "gpt": _gpt}[rung](setup)


def transposed(weights: Tree) -> Tree:
    """Return weights in the layouts that JAX computes with, without what counts batches."""
    return {k: _transposed(k, w) for k, w in weights.items() if "num_batches" not in k}


def _transposed(name: str, weight: Array) -> Array:
    if name.endswith(("wte.weight", "wpe.weight")):  # tables of words and places
        return weight
    if weight.ndim == 4:  # (out, in, h, w) -> (h, w, in, out)
        return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    return np.ascontiguousarray(weight.T) if weight.ndim == 2 else weight


def _seed(setup: Setup) -> int | None:
    return None if setup.exact else setup.seed


def figures_of(scores: Array, labels: Array) -> Tree:
    return {"loss": cross_entropy(scores, labels), "accuracy": (scores.argmax(1) == labels).mean()}


# --- mlp ---


def mlp(p: Tree, x: Array, key: Key) -> Array:
    h = x.reshape(len(x), -1)
    for i, own in enumerate(split(key, 2)):
        h = dropout(nn.relu(linear(part(p, f"hidden.{i}"), h)), 0.2, own)
    return linear(part(p, "output"), h)


def _mlp(setup: Setup) -> JaxSide:
    def figures(p: Tree, s: Tree, batch: Arrays, key: Key = None) -> Tree:
        images, labels = batch
        return figures_of(mlp(p, images, key), labels)

    def loss(p: Tree, s: Tree, batch: Arrays, key: Key) -> Found:
        found = figures(p, s, batch, key)
        return found.pop("loss"), (found, s)

    return JaxSide(transposed(dict(setup.weights)), loss, figures, _seed(setup), lambda w: 0.01)


# --- cnn ---


def cnn(p: Tree, s: Tree, x: Array, key: Key, training: bool) -> tuple[Array, Tree]:
    """A small VGG; its layers have the numbers that they have in Toumei's `Sequential`."""
    norm = batch_norm if training else running_norm
    h = x.transpose(0, 2, 3, 1)
    for stage in ((0, 3), (7, 10)):
        for k in stage:
            y = conv(part(p, f"features.{k}"), h, padding=1)
            y, s = norm(p, s, f"features.{k + 1}", y)
            h = nn.relu(y)
        h = max_pool(h)
    h = h.reshape(len(h), -1)
    for k, own in zip((0, 3), split(key, 2), strict=True):
        h = dropout(nn.relu(linear(part(p, f"classifier.{k}"), h)), 0.4, own)
    return linear(part(p, "classifier.6"), h), s


def running_norm(p: Tree, s: Tree, name: str, x: Array) -> tuple[Array, Tree]:
    """A batch norm in use: by the running statistics."""
    scale = p[f"{name}.weight"] * lax.rsqrt(s[f"{name}.running_var"] + 1e-5)
    return (x - s[f"{name}.running_mean"]) * scale + p[f"{name}.bias"], s


def _cnn(setup: Setup) -> JaxSide:
    weights = transposed(dict(setup.weights))
    first = "classifier.0.weight"
    weights[first] = from_nhwc(setup.weights[first], 64)

    def figures(p: Tree, s: Tree, batch: Arrays) -> Tree:
        return figures_of(cnn(p, s, batch[0], None, training=False)[0], batch[1])

    def loss(p: Tree, s: Tree, batch: Arrays, key: Key) -> Found:
        scores, s = cnn(p, s, batch[0], key, training=True)
        found = figures_of(scores, batch[1])
        return found.pop("loss"), (found, s)

    return JaxSide(weights, loss, figures, _seed(setup), lambda w: 0.01)


def from_nhwc(weight: Array, channels: int) -> Array:
    """Return the weight (in, out) for a flattened NHWC image, from that for an NCHW one."""
    side = round((weight.shape[1] // channels) ** 0.5)
    images = weight.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)  # (H, W, C, out)
    return np.ascontiguousarray(images.reshape(-1, len(weight)))


# --- gpt ---


def gpt(p: Tree, tokens: Array, layers: int, heads: int) -> Array:
    t = part(p, "transformer")
    h = t["wte.weight"][tokens] + t["wpe.weight"][: tokens.shape[1]]
    for i in range(layers):
        b = part(t, f"h.{i}")
        qkv = linear(part(b, "attn.c_attn"), layer_norm(part(b, "ln_1"), h))
        q, k, v = jnp.split(qkv, 3, -1)
        y = attend(q, k, v, causal=True, count=heads)
        h = h + linear(part(b, "attn.c_proj"), y)
        up = linear(part(b, "mlp.c_fc"), layer_norm(part(b, "ln_2"), h))
        h = h + linear(part(b, "mlp.c_proj"), nn.gelu(up, approximate=False))
    return layer_norm(part(t, "ln_f"), h) @ t["wte.weight"].T


def _gpt(setup: Setup) -> JaxSide:
    model = setup.facts["model"]
    if model["dropout"]:
        raise NotImplementedError("this twin of gpt has no dropout")
    weights = transposed(dict(setup.weights))
    weights.pop("lm_head.weight", None)  # it is the table of the words
    network = partial(gpt, layers=model["layers"], heads=model["heads"])

    def figures(p: Tree, s: Tree, batch: Arrays) -> Tree:
        return {"loss": cross_entropy(network(p, batch[0]), batch[1])}

    def loss(p: Tree, s: Tree, batch: Arrays, key: Key) -> Found:
        return figures(p, s, batch)["loss"], ({}, s)

    return JaxSide(
        weights, loss, figures, None, lambda w: 0.1 if w.ndim >= 2 else 0.0, beta2=0.99, clip=1.0
    )
