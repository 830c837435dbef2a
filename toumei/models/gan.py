"""DCGAN: two convolutional networks play against each other until digits come out of noise.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; Radford, Metz and Chintala,
"Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
ICLR 2016, here for images of 28 x 28.
"""

from __future__ import annotations

from .. import nn
from ..nn.functional import leaky_relu
from ..tensor import Tensor


class Generator(nn.Module):
    """Noise → an image, by a linear layer and three convolutions that enlarge it.

    h = relu(norm(W·z));  h = relu(norm(up(h))), twice;  image = tanh(up(h))

    A layer before a batch norm has no bias, which the norm would take away again.

    Shape: (N, latent) -> (N, 1, 28, 28), −1..1

    Args:
        latent: numbers of noise per image.
        width: channels at 14 x 14; there are twice as many at 7 x 7, four times at 4 x 4.

    >>> import toumei as tm
    >>> Generator(100, 32)(tm.randn(2, 100)).shape
    Size([2, 1, 28, 28])
    """

    def __init__(self, latent: int = 100, width: int = 64) -> None:
        self.input = nn.Linear(latent, 4 * width * 4 * 4, bias=False)
        self.norm1 = nn.BatchNorm2d(4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.up3 = nn.ConvTranspose2d(width, 1, 4, 2, 1)
        start_small(self)

    def forward(self, z: Tensor) -> Tensor:
        h = self.input(z).unflatten(1, (-1, 4, 4))  # (N, 4·width, 4, 4)
        h = self.norm1(h).relu()
        h = self.norm2(self.up1(h)).relu()  # (N, 2·width, 7, 7)
        h = self.norm3(self.up2(h)).relu()  # (N, width, 14, 14)
        return self.up3(h).tanh()  # (N, 1, 28, 28)


class Discriminator(nn.Module):
    """An image → a score: above 0 it is taken for real, below 0 for generated.

    h = leaky(down(image));  h = leaky(norm(down(h))), twice;  score = W·h + b

    leaky(x) = max(x, 0.2 x).  A layer before a batch norm has no bias.

    Shape: (N, 1, 28, 28), −1..1 -> (N, 1)

    Args:
        width: channels at 14 x 14; there are twice as many at 7 x 7, four times at 4 x 4.

    >>> import toumei as tm
    >>> Discriminator(32)(tm.zeros(2, 1, 28, 28)).shape
    Size([2, 1])
    """

    def __init__(self, width: int = 64) -> None:
        self.down1 = nn.Conv2d(1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        self.output = nn.Linear(4 * width * 4 * 4, 1)
        start_small(self)

    def forward(self, image: Tensor) -> Tensor:
        h = leaky_relu(self.down1(image), 0.2)  # (N, width, 14, 14)
        h = leaky_relu(self.norm2(self.down2(h)), 0.2)  # (N, 2·width, 7, 7)
        h = leaky_relu(self.norm3(self.down3(h)), 0.2)  # (N, 4·width, 4, 4)
        return self.output(h.flatten(1))  # (N, 1)


class DCGAN(nn.Module):
    """A generator, and the discriminator that it is trained to deceive.

    Shape: (N, latent) -> images (N, 1, 28, 28), −1..1, and the discriminator's scores (N, 1)

    Args:
        latent: numbers of noise per image.
        width: channels of both networks at 14 x 14.

    >>> import toumei as tm
    >>> images, scores = DCGAN(latent=10, width=4)(tm.randn(2, 10))
    >>> images.shape, scores.shape
    (Size([2, 1, 28, 28]), Size([2, 1]))
    """

    def __init__(self, latent: int = 100, width: int = 64) -> None:
        self.latent = latent
        self.generator = Generator(latent, width)
        self.discriminator = Discriminator(width)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        images = self.generator(z)
        return images, self.discriminator(images)

    def generate(self, z: Tensor) -> Tensor:
        """Return images in 0..1 of noise.  Shape: (N, latent) -> (N, 1, 28, 28)"""
        return (self.generator(z) + 1) / 2


def start_small(net: nn.Module) -> None:
    """Draw the weights anew as in Radford et al.: N(0, 0.02²), those of norms N(1, 0.02²)."""
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
        else:
            nn.init.normal_(p, 1.0 if p.ndim == 1 else 0.0, 0.02)  # only a norm's has one axis
