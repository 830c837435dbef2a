"""The ten networks and their losses in TensorFlow; weights by PyTorch's names, images NHWC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bench.workloads import BURGERS, HEADS, LEAK, LENGTH, MODEL, sinusoids

Tensor = Any


class Network(NamedTuple):
    """Weights, and those of a part by the rest of their names.

    Args:
        weights: variables, running statistics among them.
        has_dropout: whether dropout is on.
        xla: compiled by XLA, which lacks some kernels.
    """

    weights: dict[str, Any]
    has_dropout: bool
    xla: bool

    def part(self, name: str) -> Network:
        below = {k[len(name) + 1 :]: v for k, v in self.weights.items() if k.startswith(name + ".")}
        return self._replace(weights=below)

    def __getitem__(self, name: str) -> Any:
        return self.weights[name]

    # --- layers ---

    def biased(self, y: Tensor) -> Tensor:
        return tf.nn.bias_add(y, self["bias"]) if "bias" in self.weights else y

    def linear(self, x: Tensor) -> Tensor:
        if x.shape.rank == 2:
            return self.biased(x @ self["weight"])
        flat = tf.reshape(x, (-1, x.shape[-1]))  # one product, not one per sample
        return tf.reshape(self.biased(flat @ self["weight"]), (*x.shape[:-1], -1))

    def conv(self, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        borders = [[0, 0], [padding] * 2, [padding] * 2, [0, 0]]
        return self.biased(tf.nn.conv2d(x, self["weight"], stride, borders))

    def conv_transpose(self, x: Tensor) -> Tensor:
        """Twice the size, by a kernel of 4 x 4."""
        n, h, w, _ = x.shape
        shape = (n, 2 * h, 2 * w, self["weight"].shape[2])
        return self.biased(tf.nn.conv2d_transpose(x, self["weight"], shape, 2))

    def batch_norm(self, x: Tensor) -> Tensor:
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x, self["weight"], self["bias"], epsilon=1e-5, is_training=True
        )
        for kind, value in (("mean", mean), ("var", variance)):
            running = self[f"running_{kind}"]
            running.assign(0.9 * running + 0.1 * value)
        return y

    def layer_norm(self, x: Tensor) -> Tensor:
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        bias = self.weights.get("bias")
        return tf.nn.batch_normalization(x, mean, variance, bias, self["weight"], 1e-5)

    def dropout(self, x: Tensor, rate: float = 0.1) -> Tensor:
        return tf.nn.dropout(x, rate) if self.has_dropout else x

    def attention(self, x: Tensor, memory: Tensor, causal: bool = False) -> Tensor:
        """PyTorch's MultiheadAttention: queries from x, keys and values from the memory."""
        weight, bias, d = self["in_proj_weight"], self["in_proj_bias"], x.shape[-1]

        def project(x: Tensor, begin: int, end: int) -> list[Tensor]:
            flat = tf.reshape(x, (-1, d)) @ weight[:, begin * d : end * d]
            y = tf.reshape(flat + bias[begin * d : end * d], (*x.shape[:2], -1))
            return tf.split(y, end - begin, -1)

        qkv = project(x, 0, 3) if x is memory else project(x, 0, 1) + project(memory, 1, 3)
        return self.part("out_proj").linear(self.attend(*qkv, causal))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        """Attention of queries, keys and values (N, L, D)."""
        q, k, v = heads(q), heads(k), heads(v)
        scores = tf.matmul(q, k, transpose_b=True) * q.shape[-1] ** -0.5
        if causal:
            scores += np.triu(np.full(scores.shape[-2:], -np.inf, np.float32), 1)
        y = tf.transpose(self.dropout(tf.nn.softmax(scores)) @ v, (0, 2, 1, 3))
        return tf.reshape(y, (*y.shape[:2], -1))


def heads(x: Tensor) -> Tensor:
    """Shape: (N, L, D) -> (N, H, L, D/H)"""
    n, length, d = x.shape
    return tf.transpose(tf.reshape(x, (n, length, HEADS, d // HEADS)), (0, 2, 1, 3))


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))


# --- networks ---


def mlp(net: Network, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    names = sorted({k.partition(".")[0] for k in net.weights}, key=int)
    for name in names[:-1]:
        x = activation(net.part(name).linear(x))
    return net.part(names[-1]).linear(x)


def classifier(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def loss(net: Network, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(mlp(net, x, activation), y)

    return loss


def cnn(net: Network, x: Tensor, y: Tensor) -> Tensor:
    h = tf.nn.relu(net.part("0").conv(x))
    h = tf.nn.max_pool2d(tf.nn.relu(net.part("2").conv(h)), 2, 2, "VALID")
    h = tf.reshape(net.dropout(h, 0.25), (x.shape[0], -1))
    h = net.dropout(tf.nn.relu(net.part("7").linear(h)), 0.5)
    return cross_entropy(net.part("10").linear(h), y)


def resnet20(net: Network, x: Tensor, y: Tensor) -> Tensor:
    h = tf.nn.relu(net.part("1").batch_norm(net.part("0").conv(x, 1, 1)))
    for block in (net.part(str(i)) for i in range(3, 12)):
        short, width = h, block["conv1.weight"].shape[-1]
        new = width - h.shape[-1]
        h = block.part("conv1").conv(h, 2 if new else 1, 1)
        h = tf.nn.relu(block.part("bn1").batch_norm(h))
        h = block.part("bn2").batch_norm(block.part("conv2").conv(h, 1, 1))
        if new:
            short = tf.pad(short[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [new // 2, new // 2]])
        h = tf.nn.relu(h + short)
    return cross_entropy(net.part("14").linear(tf.reduce_mean(h, (1, 2))), y)


def burgers(net: Network, x: Tensor, t: Tensor, edge: Tensor, value: Tensor) -> Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as second:
        second.watch(x)
        with tf.GradientTape(watch_accessed_variables=False) as first:
            first.watch([x, t])
            u = mlp(net, tf.concat([x, t], 1), tf.tanh)
        u_x, u_t = first.gradient(u, [x, t])
    u_xx = second.gradient(u_x, x)
    residual = u_t + u * u_x - BURGERS * u_xx
    missed = mlp(net, edge, tf.tanh) - value
    return tf.reduce_mean(tf.square(residual)) + tf.reduce_mean(tf.square(missed))


def encoder_layer(net: Network, x: Tensor) -> Tensor:
    h = net.part("self_attn").attention(x, x)
    x = net.part("norm1").layer_norm(x + net.dropout(h))
    return net.part("norm2").layer_norm(x + feed_forward(net, x))


def decoder_layer(net: Network, x: Tensor, memory: Tensor) -> Tensor:
    h = net.part("self_attn").attention(x, x, causal=True)
    x = net.part("norm1").layer_norm(x + net.dropout(h))
    h = net.part("multihead_attn").attention(x, memory)
    x = net.part("norm2").layer_norm(x + net.dropout(h))
    return net.part("norm3").layer_norm(x + feed_forward(net, x))


def feed_forward(net: Network, x: Tensor) -> Tensor:
    h = net.dropout(tf.nn.relu(net.part("linear1").linear(x)))
    return net.dropout(net.part("linear2").linear(h))


def transformer(net: Network, source: Tensor, target: Tensor, y: Tensor) -> Tensor:
    place = sinusoids(LENGTH, MODEL)

    def embed(name: str, words: Tensor) -> Tensor:
        found = tf.nn.embedding_lookup(net[f"{name}.weight"], words)
        return net.dropout(found * MODEL**0.5 + place)

    memory, h = embed("source", source), embed("target", target)
    encoder, decoder = net.part("transformer.encoder"), net.part("transformer.decoder")
    for i in range(2):
        memory = encoder_layer(encoder.part(f"layers.{i}"), memory)
    memory = encoder.part("norm").layer_norm(memory)
    for i in range(2):
        h = decoder_layer(decoder.part(f"layers.{i}"), h, memory)
    return cross_entropy(net.part("output").linear(decoder.part("norm").layer_norm(h)), y)


def gpt(net: Network, x: Tensor, y: Tensor) -> Tensor:
    table = net["token.weight"]
    h = tf.nn.embedding_lookup(table, x) + net["place.weight"]
    for block in (net.part(f"blocks.{i}") for i in range(4)):
        qkv = block.part("qkv").linear(block.part("ln_1").layer_norm(h))
        h += block.part("project").linear(block.attend(*tf.split(qkv, 3, -1), causal=True))
        up = block.part("up").linear(block.part("ln_2").layer_norm(h))
        h += block.part("down").linear(tf.nn.gelu(up))
    flat = tf.reshape(net.part("norm").layer_norm(h), (-1, h.shape[-1]))
    return cross_entropy(tf.matmul(flat, table, transpose_b=True), tf.reshape(y, (-1,)))


def vit(net: Network, x: Tensor, y: Tensor) -> Tensor:
    h = tf.reshape(net.part("patches").conv(x, 4), (x.shape[0], -1, MODEL))
    token = tf.broadcast_to(net["token"], (x.shape[0], 1, MODEL))
    h = tf.concat([token, h], 1) + net["place"]
    for layer in (net.part(f"encoder.layers.{i}") for i in range(6)):
        normal = layer.part("norm1").layer_norm(h)
        h += layer.part("self_attn").attention(normal, normal)
        up = layer.part("linear1").linear(layer.part("norm2").layer_norm(h))
        h += layer.part("linear2").linear(tf.nn.gelu(up))
    h = net.part("encoder.norm").layer_norm(h[:, 0])
    return cross_entropy(net.part("head").linear(h), y)


def lstm(net: Network, x: Tensor, y: Tensor) -> Tensor:
    rnn = net.part("rnn")
    ahead = tf.nn.embedding_lookup(net["embedding.weight"], tf.transpose(x))  # (L, N, E)
    bias = rnn["bias_ih_l0"] + rnn["bias_hh_l0"]
    run = looped if net.xla else unrolled  # each is the faster one there
    h = run(ahead, rnn["weight_ih_l0"], rnn["weight_hh_l0"], bias)
    return cross_entropy(net.part("head").linear(h), tf.transpose(y))


def from_inputs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what the inputs add to the gates of all steps.  Shape: (L, N, E) -> (L, N, 4·H)"""
    flat = tf.reshape(x, (-1, x.shape[-1])) @ weight + bias
    return tf.reshape(flat, (*x.shape[:2], -1))


def cell(ahead: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A step of an LSTM."""
    i, f, g, o = tf.split(ahead + h @ weight, 4, -1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def looped(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """An LSTM as a loop in the graph."""
    ahead = from_inputs(x, weight_ih, bias)
    zeros = tf.zeros((x.shape[1], weight_hh.shape[0]))

    def turn(place: Tensor, h: Tensor, c: Tensor, out: Any) -> tuple[Any, ...]:
        h, c = cell(ahead[place], h, c, weight_hh)
        return place + 1, h, c, out.write(place, h)

    length = x.shape[0]
    out = tf.TensorArray(tf.float32, length, element_shape=zeros.shape)
    return tf.while_loop(
        lambda place, *_: place < length, turn, (0, zeros, zeros, out), maximum_iterations=length
    )[3].stack()


def unrolled(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """An LSTM with each of its steps in the graph."""
    h = c = tf.zeros((x.shape[1], weight_hh.shape[0]))
    out = []
    for ahead in tf.unstack(from_inputs(x, weight_ih, bias)):
        h, c = cell(ahead, h, c, weight_hh)
        out.append(h)
    return tf.stack(out)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "W1": classifier(tf.sigmoid),
    "W2": classifier(tf.nn.relu),
    "W3": cnn,
    "W4": resnet20,
    "W5": burgers,
    "W6": transformer,
    "W7": gpt,
    "W8": vit,
    "W10": lstm,
}


# --- the two players of a GAN ---


def generator(net: Network, z: Tensor) -> Tensor:
    h = tf.reshape(net.part("0").linear(z), (z.shape[0], 7, 7, 128))
    h = net.part("4").conv_transpose(tf.nn.relu(net.part("2").batch_norm(h)))
    return tf.tanh(net.part("7").conv_transpose(tf.nn.relu(net.part("5").batch_norm(h))))


def discriminator(net: Network, image: Tensor) -> Tensor:
    h = tf.nn.leaky_relu(net.part("0").conv(image, 2, 1), LEAK)
    h = tf.nn.leaky_relu(net.part("3").batch_norm(net.part("2").conv(h, 2, 1)), LEAK)
    return net.part("6").linear(tf.reshape(h, (image.shape[0], -1)))


def adversarial(
    net: Network, learn: Callable[[dict[str, Any]], None], real: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Take a step of both players; `learn` moves weights by their gradients."""
    weights = {k: v for k, v in net.weights.items() if v.trainable}
    of_g, of_d = (
        {k: v for k, v in weights.items() if k.startswith(name)}
        for name in ("generator", "discriminator")
    )
    entropy = tf.nn.sigmoid_cross_entropy_with_logits
    with tf.GradientTape() as tape_g:
        fake = generator(net.part("generator"), noise)
    with tf.GradientTape() as tape_d:
        said_real, said_fake = (discriminator(net.part("discriminator"), x) for x in (real, fake))
        loss_d = tf.reduce_mean(entropy(tf.ones_like(said_real), said_real)) + tf.reduce_mean(
            entropy(tf.zeros_like(said_fake), said_fake)
        )
    learn(tape_d.gradient(loss_d, of_d))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fake)
        said = discriminator(net.part("discriminator"), fake)
        loss_g = tf.reduce_mean(entropy(tf.ones_like(said), said))
    learn(tape_g.gradient(fake, of_g, output_gradients=tape.gradient(loss_g, fake)))
    return loss_d, loss_g
