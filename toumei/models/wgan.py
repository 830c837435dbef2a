"""WGAN-GP: a GAN whose critic measures how far generated images are from real ones.

The critic's mean score of real images less that of generated ones is the Wasserstein distance,
if the critic is as good as one can be whose slope is nowhere above 1.  The gradient penalty keeps
the slope near 1: its own gradient is a gradient of a gradient.

Arjovsky, Chintala and Bottou, "Wasserstein GAN", ICML 2017; Gulrajani et al., "Improved Training
of Wasserstein GANs", NeurIPS 2017.
"""

from __future__ import annotations

from .. import nn
from ..autograd import grad
from ..nn.functional import leaky_relu
from ..tensor import Tensor
from .gan import Generator


class Critic(nn.Module):
    """An image → a score, the higher the more real.

    There is no batch norm: the penalty is on the slope of each image's own score, which a norm
    would let depend on the other images.

    h = leaky(down(image)), three times;  score = W·h + b,  leaky(x) = max(x, 0.2 x)

    Shape: (N, 1, 28, 28), −1..1 -> (N, 1)

    Args:
        width: channels at 14 x 14; there are twice as many at 7 x 7, four times at 4 x 4.

    >>> import toumei as tm
    >>> Critic(32)(tm.zeros(2, 1, 28, 28)).shape
    Size([2, 1])
    """

    def __init__(self, width: int = 64) -> None:
        self.down1 = nn.Conv2d(1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1)
        self.output = nn.Linear(4 * width * 4 * 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        h = leaky_relu(self.down1(image), 0.2)  # (N, width, 14, 14)
        h = leaky_relu(self.down2(h), 0.2)  # (N, 2·width, 7, 7)
        h = leaky_relu(self.down3(h), 0.2)  # (N, 4·width, 4, 4)
        return self.output(h.flatten(1))  # (N, 1)


class WGAN(nn.Module):
    """A generator, and a critic that tells it where to go.

    Shape: (N, latent) -> images (N, 1, 28, 28), −1..1, and the critic's scores (N, 1)

    Args:
        latent: numbers of noise per image.
        width: channels of both networks at 14 x 14.

    >>> import toumei as tm
    >>> images, scores = WGAN(latent=10, width=4)(tm.randn(2, 10))
    >>> images.shape, scores.shape
    (Size([2, 1, 28, 28]), Size([2, 1]))
    """

    def __init__(self, latent: int = 100, width: int = 64) -> None:
        self.latent = latent
        self.generator = Generator(latent, width)
        self.critic = Critic(width)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        images = self.generator(z)
        return images, self.critic(images)

    def generate(self, z: Tensor) -> Tensor:
        """Return images in 0..1 of noise.  Shape: (N, latent) -> (N, 1, 28, 28)"""
        return (self.generator(z) + 1) / 2


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """By how much the slope of a critic misses 1, between real images and generated ones.

    x = ε·real + (1 − ε)·fake;   penalty = mean over images of (|∂critic(x)/∂x| − 1)²

    It can be differentiated by the critic's parameters, but not by the images.

    Shape: real, fake (N, …), epsilon (N, 1, …) in 0..1 -> ()

    Args:
        critic: the network; each image's score must depend on that image alone.
        real, fake: as many images of each.
        epsilon: where between the two to measure.

    >>> import toumei as tm
    >>> steep = lambda x: 3 * x.sum(1)  # the slope of 4 numbers' sum is √4
    >>> gradient_penalty(steep, tm.zeros(5, 4), tm.ones(5, 4), tm.rand(5, 1))  # (3·2 − 1)²
    tensor(25.)
    """
    between = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    # The sum's derivative by one image is that of its own score.
    (slope,) = grad(critic(between).sum(), between, create_graph=True)
    norm = slope.flatten(1).norm(dim=1)
    return ((norm - 1) ** 2).mean()
