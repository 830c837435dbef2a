"""Vision transformer: an image is cut into patches, which are read as a transformer reads words.

Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at scale",
ICLR 2021, arXiv:2010.11929.  Parameters are named as torchvision names them.

Shapes: N images, P patches, D numbers per patch, H heads.
"""

from __future__ import annotations

from .. import nn
from ..errors import ModuleError
from ..ops import cat, zeros
from ..tensor import Tensor


class EncoderBlock(nn.Module):
    """h = x + dropout(attention(ln₁(x)));  y = h + mlp(ln₂(h)).  Shape: (N, P, D) -> (N, P, D)"""

    def __init__(
        self, dim: int, heads: int, inner: int, dropout: float, attention_dropout: float
    ) -> None:
        self.ln_1 = nn.LayerNorm(dim, 1e-6)
        self.self_attention = nn.MultiheadAttention(dim, heads, attention_dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(dim, 1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(inner, dim),
            nn.Dropout(dropout),
        )
        for layer in (self.mlp[0], self.mlp[3]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, 0, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)  # (N, P, D)
        h, _ = self.self_attention(h, h, h, need_weights=False)  # (N, P, D)
        x = x + self.dropout(h)  # (N, P, D)
        return x + self.mlp(self.ln_2(x))  # (N, P, D)


class Encoder(nn.Module):
    """Learnt positions are added, then blocks follow, then a norm.  Shape: (N, P, D) -> the same"""

    def __init__(
        self, length: int, depth: int, dim: int, heads: int, inner: int, dropout: float,
        attention_dropout: float, position_std: float,
    ) -> None:  # fmt: skip
        positions = nn.init.normal_(zeros(1, length, dim), 0, position_std)
        self.pos_embedding = nn.Parameter(positions)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            {
                f"encoder_layer_{i}": EncoderBlock(dim, heads, inner, dropout, attention_dropout)
                for i in range(depth)
            }
        )
        self.ln = nn.LayerNorm(dim, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))  # (N, P, D)


class ViT(nn.Module):
    """Patches and a class token go through a transformer; the token's end gives the scores.

    z₀ = [class; E·x₁; …; E·x_P] + positions;  z = blocks(z₀);  y = W·ln(z)_class + b

    Shape: (N, channels, image_size, image_size) -> (N, num_classes) scores

    Args:
        image_size: height and width of the images, pixels.
        patch_size: height and width of a patch, pixels.
        depth: blocks.
        heads: heads of each attention.
        dim: numbers per patch.
        inner: width of the layer within a block's perceptron; 4·dim if None.
        dropout: probability that a value is dropped in training.
        attention_dropout: probability that an attention weight is dropped in training.
        num_classes: scores per image.
        channels: of the images: 1 if grey, 3 if coloured.
        position_std: standard deviation of the positions at the start.  From 0.02 they take long
            to grow out of the patches' noise; with few images 1 learns several times as fast.

    Raises:
        ModuleError: the patches don't fill the image; forward: the images have another size.

    >>> import toumei as tm
    >>> ViT(image_size=28, patch_size=7, depth=2, heads=2, dim=16, num_classes=10, channels=1)(
    ...     tm.zeros(3, 1, 28, 28)
    ... ).shape
    Size([3, 10])
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        depth: int = 12,
        heads: int = 12,
        dim: int = 768,
        inner: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        num_classes: int = 1000,
        channels: int = 3,
        position_std: float = 0.02,
    ) -> None:
        if image_size % patch_size:
            raise ModuleError(
                f"ViT: patches of {patch_size} pixels don't fill an image of {image_size}"
            )
        self.image_size, self.patch_size = image_size, patch_size
        self.side = image_size // patch_size  # patches along an edge
        self.class_token = nn.Parameter(zeros(1, 1, dim))
        self.conv_proj = nn.Conv2d(channels, dim, patch_size, stride=patch_size)
        length, inner = self.side**2 + 1, inner or 4 * dim
        self.encoder = Encoder(
            length, depth, dim, heads, inner, dropout, attention_dropout, position_std
        )
        self.heads = nn.Sequential({"head": nn.Linear(dim, num_classes)})
        self._start()

    def _start(self) -> None:
        fan_in = nn.init.fans(self.conv_proj.weight)[0]
        nn.init.trunc_normal_(self.conv_proj.weight, std=fan_in**-0.5)
        for start in (self.conv_proj.bias, *self.heads.parameters()):
            if start is not None:
                nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:  # (N, channels, image_size, image_size)
        if tuple(x.shape[2:]) != (self.image_size, self.image_size):
            raise ModuleError(
                f"ViT: images must have {self.image_size} x {self.image_size} pixels, their "
                f"shape is {tuple(x.shape)}"
            )
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)  # (N, side², D)
        token = self.class_token.expand(x.shape[0], -1, -1)  # (N, 1, D)
        z = self.encoder(cat([token, patches], 1))  # (N, side² + 1, D)
        return self.heads(z[:, 0])  # (N, num_classes)


def vit_b_16(num_classes: int = 1000) -> ViT:
    """Return the base size for patches of 16 pixels: 86,567,656 parameters with 1000 classes."""
    return ViT(num_classes=num_classes)
