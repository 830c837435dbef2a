"""The ten networks and their losses in JAX: functions of weights by PyTorch's names.

Images are NHWC; a loss also returns the running statistics of batch norms as they are afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, nn

from bench.workloads import BURGERS, HEADS, LEAK, LENGTH, MODEL, sinusoids

Array = Any
Tree = dict[str, Any]
Key = Any  # of random numbers; None: no dropout


def part(tree: Tree, name: str) -> Tree:
    """Return what is below a name, by the rest of the names."""
    return {k[len(name) + 1 :]: v for k, v in tree.items() if k.startswith(name + ".")}


def split(key: Key, count: int) -> list[Key]:
    return [None] * count if key is None else list(jax.random.split(key, count))


# --- layers ---


def linear(p: Tree, x: Array) -> Array:
    y = x @ p["weight"]
    return y + p["bias"] if "bias" in p else y


def dropout(x: Array, rate: float, key: Key) -> Array:
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def conv(p: Tree, x: Array, stride: int = 1, padding: int = 0) -> Array:
    y = lax.conv_general_dilated(
        x, p["weight"], (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return y + p["bias"] if "bias" in p else y


def conv_transpose(p: Tree, x: Array) -> Array:
    """Twice the size, by a kernel of 4 x 4."""
    y = lax.conv_transpose(
        x, p["weight"], (2, 2), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True,
    )  # fmt: skip
    return y + p["bias"] if "bias" in p else y


def batch_norm(p: Tree, s: Tree, name: str, x: Array) -> tuple[Array, Tree]:
    """Return the normalised batch, and the running statistics with this one's among them."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    variance = jnp.square(x - mean).mean(axes)
    y = (x - mean) * lax.rsqrt(variance + 1e-5) * p[name + ".weight"] + p[name + ".bias"]
    count = x.size // x.shape[-1]
    new = {"mean": mean, "var": variance * (count / (count - 1))}
    names = {kind: f"{name}.running_{kind}" for kind in new}
    return y, s | {names[k]: 0.9 * s[names[k]] + 0.1 * v for k, v in new.items()}


def layer_norm(p: Tree, x: Array) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    y = (x - mean) * lax.rsqrt(variance + 1e-5) * p["weight"]
    return y + p["bias"] if "bias" in p else y


def max_pool(x: Array) -> Array:
    """Half the size; a reshape is faster than `reduce_window`, above all backwards."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def heads(x: Array, count: int) -> Array:
    """Shape: (N, L, D) -> (N, H, L, D/H)"""
    n, length, _ = x.shape
    return x.reshape(n, length, count, -1).transpose(0, 2, 1, 3)


def attend(
    q: Array, k: Array, v: Array, causal: bool, key: Key = None, count: int = HEADS
) -> Array:
    """Attention of queries, keys and values (N, L, D), with so many heads."""
    q, k, v = heads(q, count), heads(k, count), heads(v, count)
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        ahead = jnp.triu(jnp.ones(scores.shape[-2:], bool), 1)
        scores = jnp.where(ahead, -jnp.inf, scores)
    y = dropout(nn.softmax(scores), 0.1, key) @ v
    n, _, length, _ = y.shape
    return y.transpose(0, 2, 1, 3).reshape(n, length, -1)


def attention(p: Tree, x: Array, memory: Array, causal: bool = False, key: Key = None) -> Array:
    """PyTorch's MultiheadAttention: queries from x, keys and values from the memory."""
    weight, bias, d = p["in_proj_weight"], p["in_proj_bias"], x.shape[-1]
    if x is memory:
        q, k, v = jnp.split(x @ weight + bias, 3, -1)
    else:
        q = x @ weight[:, :d] + bias[:d]
        k, v = jnp.split(memory @ weight[:, d:] + bias[d:], 2, -1)
    return linear(part(p, "out_proj"), attend(q, k, v, causal, key))


def cross_entropy(scores: Array, labels: Array) -> Array:
    chosen = jnp.take_along_axis(nn.log_softmax(scores), labels[..., None], -1)
    return -chosen.mean()


# --- networks ---


def mlp(p: Tree, x: Array, activation: Callable[[Array], Array]) -> Array:
    names = sorted({k.partition(".")[0] for k in p}, key=int)
    for name in names[:-1]:
        x = activation(linear(part(p, name), x))
    return linear(part(p, names[-1]), x)


def classifier(activation: Callable[[Array], Array]) -> Any:
    def loss(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
        return cross_entropy(mlp(p, inputs["x"], activation), inputs["y"]), s

    return loss


def cnn(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    key1, key2 = split(key, 2)
    h = nn.relu(conv(part(p, "0"), inputs["x"]))
    h = max_pool(nn.relu(conv(part(p, "2"), h)))
    h = dropout(h, 0.25, key1).reshape(len(h), -1)
    h = dropout(nn.relu(linear(part(p, "7"), h)), 0.5, key2)
    return cross_entropy(linear(part(p, "10"), h), inputs["y"]), s


def resnet20(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    h, s = batch_norm(p, s, "1", conv(part(p, "0"), inputs["x"], 1, 1))
    h = nn.relu(h)
    for block in map(str, range(3, 12)):
        x, width = h, p[f"{block}.conv1.weight"].shape[-1]
        new = width - x.shape[-1]
        h, s = batch_norm(
            p, s, f"{block}.bn1", conv(part(p, f"{block}.conv1"), x, 2 if new else 1, 1)
        )
        h, s = batch_norm(p, s, f"{block}.bn2", conv(part(p, f"{block}.conv2"), nn.relu(h), 1, 1))
        if new:
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (new // 2, new // 2)))
        h = nn.relu(h + x)
    return cross_entropy(linear(part(p, "14"), h.mean((1, 2))), inputs["y"]), s


def burgers(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    """The PINN's loss; the second derivative is taken forwards, over backwards: the fastest."""
    x, t = inputs["x"], inputs["t"]

    def u(x: Array, t: Array) -> Array:
        return mlp(p, jnp.concatenate([x, t], 1), jnp.tanh)

    def slopes(x: Array) -> tuple[Array, Array]:
        return jax.grad(lambda x, t: u(x, t).sum(), (0, 1))(x, t)

    (u_x, u_t), (u_xx, _) = jax.jvp(slopes, (x,), (jnp.ones_like(x),))
    residual = u_t + u(x, t) * u_x - BURGERS * u_xx
    missed = mlp(p, inputs["edge"], jnp.tanh) - inputs["value"]
    return (residual**2).mean() + (missed**2).mean(), s


def encoder_layer(p: Tree, x: Array, key: Key) -> Array:
    keys = split(key, 4)
    h = attention(part(p, "self_attn"), x, x, key=keys[0])
    x = layer_norm(part(p, "norm1"), x + dropout(h, 0.1, keys[1]))
    return layer_norm(part(p, "norm2"), x + feed_forward(p, x, keys[2], keys[3]))


def decoder_layer(p: Tree, x: Array, memory: Array, key: Key) -> Array:
    keys = split(key, 6)
    h = attention(part(p, "self_attn"), x, x, causal=True, key=keys[0])
    x = layer_norm(part(p, "norm1"), x + dropout(h, 0.1, keys[1]))
    h = attention(part(p, "multihead_attn"), x, memory, key=keys[2])
    x = layer_norm(part(p, "norm2"), x + dropout(h, 0.1, keys[3]))
    return layer_norm(part(p, "norm3"), x + feed_forward(p, x, keys[4], keys[5]))


def feed_forward(p: Tree, x: Array, key1: Key, key2: Key) -> Array:
    h = dropout(nn.relu(linear(part(p, "linear1"), x)), 0.1, key1)
    return dropout(linear(part(p, "linear2"), h), 0.1, key2)


def transformer(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    keys, place = split(key, 6), sinusoids(LENGTH, MODEL)

    def embed(name: str, key: Key) -> Array:
        return dropout(p[f"{name}.weight"][inputs[name]] * MODEL**0.5 + place, 0.1, key)

    memory, h = embed("source", keys[0]), embed("target", keys[1])
    encoder, decoder = part(p, "transformer.encoder"), part(p, "transformer.decoder")
    for i in range(2):
        memory = encoder_layer(part(encoder, f"layers.{i}"), memory, keys[2 + i])
    memory = layer_norm(part(encoder, "norm"), memory)
    for i in range(2):
        h = decoder_layer(part(decoder, f"layers.{i}"), h, memory, keys[4 + i])
    h = layer_norm(part(decoder, "norm"), h)
    return cross_entropy(linear(part(p, "output"), h), inputs["y"]), s


def gpt(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    h = p["token.weight"][inputs["x"]] + p["place.weight"]
    for i in range(4):
        b = part(p, f"blocks.{i}")
        q, k, v = jnp.split(linear(part(b, "qkv"), layer_norm(part(b, "ln_1"), h)), 3, -1)
        h = h + linear(part(b, "project"), attend(q, k, v, causal=True))
        up = linear(part(b, "up"), layer_norm(part(b, "ln_2"), h))
        h = h + linear(part(b, "down"), nn.gelu(up, approximate=False))
    scores = layer_norm(part(p, "norm"), h) @ p["token.weight"].T
    return cross_entropy(scores, inputs["y"]), s


def vit(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    n = len(inputs["x"])
    h = conv(part(p, "patches"), inputs["x"], 4).reshape(n, -1, MODEL)
    h = jnp.concatenate([jnp.broadcast_to(p["token"], (n, 1, MODEL)), h], 1) + p["place"]
    for i in range(6):
        b = part(p, f"encoder.layers.{i}")
        x = layer_norm(part(b, "norm1"), h)
        h = h + attention(part(b, "self_attn"), x, x)
        up = linear(part(b, "linear1"), layer_norm(part(b, "norm2"), h))
        h = h + linear(part(b, "linear2"), nn.gelu(up, approximate=False))
    h = layer_norm(part(p, "encoder.norm"), h[:, 0])
    return cross_entropy(linear(part(p, "head"), h), inputs["y"]), s


def lstm(p: Tree, s: Tree, inputs: Tree, key: Key) -> tuple[Array, Tree]:
    r = part(p, "rnn")
    x = p["embedding.weight"][inputs["x"].T]  # (L, N, E)
    ahead = x @ r["weight_ih_l0"] + (r["bias_ih_l0"] + r["bias_hh_l0"])  # all places at once

    def cell(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        i, f, g, o = jnp.split(x + h @ r["weight_hh_l0"], 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], 128))
    _, h = lax.scan(cell, (zeros, zeros), ahead)
    return cross_entropy(linear(part(p, "head"), h), inputs["y"].T), s


LOSSES = {
    "W1": classifier(nn.sigmoid),
    "W2": classifier(nn.relu),
    "W3": cnn,
    "W4": resnet20,
    "W5": burgers,
    "W6": transformer,
    "W7": gpt,
    "W8": vit,
    "W10": lstm,
}


# --- the two players of a GAN ---


def generator(p: Tree, s: Tree, z: Array) -> tuple[Array, Tree]:
    h = (z @ p["generator.0.weight"]).reshape(-1, 7, 7, 128)
    h, s = batch_norm(p, s, "generator.2", h)
    h = conv_transpose(part(p, "generator.4"), nn.relu(h))
    h, s = batch_norm(p, s, "generator.5", h)
    return jnp.tanh(conv_transpose(part(p, "generator.7"), nn.relu(h))), s


def discriminator(p: Tree, s: Tree, image: Array) -> tuple[Array, Tree]:
    h = nn.leaky_relu(conv(part(p, "discriminator.0"), image, 2, 1), LEAK)
    h, s = batch_norm(p, s, "discriminator.3", conv(part(p, "discriminator.2"), h, 2, 1))
    h = nn.leaky_relu(h, LEAK).reshape(len(h), -1)
    return linear(part(p, "discriminator.6"), h), s


def adversarial(
    p: Tree, s: Tree, inputs: Tree, learn: Callable[[Tree, Tree], Tree]
) -> tuple[tuple[Array, Array], Tree]:
    """Take a step of both players; `learn(gradients, weights)` returns the new weights.

    Softplus is the cross-entropy with logits: of −score for real ones, of the score for fakes.
    """
    g, d = ({k: v for k, v in p.items() if k.startswith(name)} for name in ("gen", "dis"))
    fake, back, s = jax.vjp(lambda g: generator(g, s, inputs["noise"]), g, has_aux=True)

    def loss_d(d: Tree, s: Tree) -> tuple[Array, Tree]:
        said_real, s = discriminator(d, s, inputs["real"])
        said_fake, s = discriminator(d, s, fake)
        return nn.softplus(-said_real).mean() + nn.softplus(said_fake).mean(), s

    def loss_g(fake: Array, s: Tree) -> tuple[Array, Tree]:
        said, s = discriminator(d, s, fake)
        return nn.softplus(-said).mean(), s

    (of_d, s), grads = jax.value_and_grad(loss_d, has_aux=True)(d, s)
    d = learn(grads, d)
    (of_g, s), slope = jax.value_and_grad(loss_g, has_aux=True)(fake, s)
    learn(back(slope)[0], g)
    return (of_d, of_g), s
