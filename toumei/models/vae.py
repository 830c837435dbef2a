"""Variational auto-encoder: an image → a place in a latent space, blurred → an image again.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; sizes and names of the parts as
in PyTorch's example of it.
"""

from __future__ import annotations

from .. import nn
from ..nn.functional import binary_cross_entropy_with_logits
from ..ops import randn_like
from ..tensor import Tensor


class VAE(nn.Module):
    """Encoder and decoder with a hidden layer each, and a normal distribution in between.

    h = relu(W₁·x);  μ = W₂₁·h,  log σ² = W₂₂·h;  z = μ + σ·ε,  ε ~ N(0, 1)
    x̂ = sigmoid(W₄·relu(W₃·z)), with a bias in each layer

    Shape: (N, …) with `inputs` numbers 0..1 per sample -> scores of the pixels (N, inputs), whose
    sigmoid is x̂, and μ and log σ² (N, latent)

    Args:
        inputs: numbers per sample.
        hidden: width of the hidden layers.
        latent: dimensions of the latent space.

    >>> import toumei as tm
    >>> [part.shape for part in VAE(784, 400, 20)(tm.rand(2, 1, 28, 28))]
    [Size([2, 784]), Size([2, 20]), Size([2, 20])]
    """

    def __init__(self, inputs: int = 784, hidden: int = 400, latent: int = 20) -> None:
        self.latent = latent
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc21 = nn.Linear(hidden, latent)
        self.fc22 = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, inputs)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² of images.  Shape: (N, …) -> (N, latent), (N, latent)"""
        h = self.fc1(x.flatten(1)).relu()  # (N, hidden)
        return self.fc21(h), self.fc22(h)

    def scores(self, z: Tensor) -> Tensor:
        """Return the pixels of places before the sigmoid.  Shape: (N, latent) -> (N, inputs)"""
        return self.fc4(self.fc3(z).relu())

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)  # (N, latent) each
        noise = randn_like(mu) if noise is None else noise  # (N, latent)
        return self.scores(mu + (logvar / 2).exp() * noise), mu, logvar

    def generate(self, z: Tensor) -> Tensor:
        """Return images in 0..1 of places.  Shape: (N, latent) -> (N, 1, √inputs, √inputs)"""
        pixels = self.scores(z).sigmoid()
        side = round(pixels.shape[1] ** 0.5)
        return pixels.unflatten(1, (1, side, side))


def vae_loss(scores: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return −ELBO of each sample in nats: at least what its image has of information.

    BCE = −Σ x·log x̂ + (1 − x)·log(1 − x̂);   KL = −½ Σ (1 + log σ² − μ² − σ²);   loss = BCE + KL

    Shape: scores (N, inputs), x (N, …) in 0..1, mu and logvar (N, latent) -> (N)

    >>> import toumei as tm
    >>> here = tm.zeros(1, 2)  # where the prior is: KL = 0
    >>> vae_loss(tm.zeros(1, 3), tm.ones(1, 3), here, here)  # 3 pixels of ln 2 each
    tensor([2.0794])
    """
    bce = binary_cross_entropy_with_logits(scores, x.flatten(1), reduction="none").sum(1)
    kl = -0.5 * (1 + logvar - mu * mu - logvar.exp()).sum(1)
    return bce + kl
