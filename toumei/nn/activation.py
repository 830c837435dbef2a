"""Activation functions as layers."""

from __future__ import annotations

from typing import Any

from ..ops.creation import full
from ..tensor import Parameter, Tensor
from . import functional as F
from .function_layer import FunctionLayer
from .module import Module

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class ReLU(FunctionLayer, of=F.relu):
    """y = max(0, x).  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ReLU()(tm.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    inplace: bool = False


class ReLU6(FunctionLayer, of=F.relu6):
    """y = min(max(0, x), 6).  Shape: (…) -> (…)"""

    inplace: bool = False


class LeakyReLU(FunctionLayer, of=F.leaky_relu):
    """y = max(0, x) + negative_slope·min(0, x).  Shape: (…) -> (…)"""

    negative_slope: float = 0.01
    inplace: bool = False


class RReLU(FunctionLayer, of=F.rrelu):
    """y = x where x ≥ 0, else a·x; a is drawn from [lower, upper], their mean in evaluation.

    Shape: (…) -> (…)
    Paper: Xu et al., "Empirical Evaluation of Rectified Activations" (2015)
    """

    lower: float = 1 / 8
    upper: float = 1 / 3
    inplace: bool = False

    def forward(self, input: Tensor) -> Any:
        return super().forward(input, training=self.training)


class PReLU(Module):
    """y = max(0, x) + weight·min(0, x), with a learnt weight.  Shape: (N, C, …) -> (N, C, …)

    Args:
        num_parameters: 1 for all channels together, or the number of channels.
        init: the weight to start with.

    Paper: He et al., "Delving Deep into Rectifiers" (2015)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), float(init)))

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(FunctionLayer, of=F.elu):
    """y = x where x > 0, else alpha·(eˣ − 1).  Shape: (…) -> (…)

    Paper: Clevert et al., "Fast and Accurate Deep Network Learning by ELUs" (2015)
    """

    alpha: float = 1.0
    inplace: bool = False


class CELU(FunctionLayer, of=F.celu):
    """y = max(0, x) + min(0, alpha·(exp(x/alpha) − 1)).  Shape: (…) -> (…)"""

    alpha: float = 1.0
    inplace: bool = False


class SELU(FunctionLayer, of=F.selu):
    """y = scale·(max(0, x) + min(0, α·(eˣ − 1))): keeps mean 0 and variance 1.  Shape: (…) -> (…)

    Paper: Klambauer et al., "Self-Normalizing Neural Networks" (2017)
    """

    inplace: bool = False


class GELU(FunctionLayer, of=F.gelu):
    """y = x·Φ(x), Φ the normal distribution function; "tanh" approximates it.  Shape: (…) -> (…)

    Paper: Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016)
    """

    approximate: str = "none"


class SiLU(FunctionLayer, of=F.silu):
    """y = x·sigmoid(x), also called swish.  Shape: (…) -> (…)"""

    inplace: bool = False


class Mish(FunctionLayer, of=F.mish):
    """y = x·tanh(softplus(x)).  Shape: (…) -> (…)"""

    inplace: bool = False


class Sigmoid(FunctionLayer, of=F.sigmoid):
    """y = 1/(1 + e⁻ˣ).  Shape: (…) -> (…)"""


class LogSigmoid(FunctionLayer, of=F.logsigmoid):
    """y = ln(1/(1 + e⁻ˣ)).  Shape: (…) -> (…)"""


class Tanh(FunctionLayer, of=F.tanh):
    """y = tanh x.  Shape: (…) -> (…)"""


class Tanhshrink(FunctionLayer, of=F.tanhshrink):
    """y = x − tanh x.  Shape: (…) -> (…)"""


class Softplus(FunctionLayer, of=F.softplus):
    """y = ln(1 + exp(beta·x))/beta; x itself where beta·x > threshold.  Shape: (…) -> (…)"""

    beta: float = 1.0
    threshold: float = 20.0


class Softsign(FunctionLayer, of=F.softsign):
    """y = x/(1 + |x|).  Shape: (…) -> (…)"""


class Softshrink(FunctionLayer, of=F.softshrink):
    """y = x − lambd where x > lambd, x + lambd where x < −lambd, else 0.  Shape: (…) -> (…)"""

    lambd: float = 0.5


class Hardshrink(FunctionLayer, of=F.hardshrink):
    """y = x where |x| > lambd, else 0.  Shape: (…) -> (…)"""

    lambd: float = 0.5


class Hardtanh(FunctionLayer, of=F.hardtanh):
    """y = min(max(min_val, x), max_val).  Shape: (…) -> (…)"""

    min_val: float = -1.0
    max_val: float = 1.0
    inplace: bool = False


class Hardsigmoid(FunctionLayer, of=F.hardsigmoid):
    """y = min(max(0, x/6 + ½), 1).  Shape: (…) -> (…)"""

    inplace: bool = False


class Hardswish(FunctionLayer, of=F.hardswish):
    """y = x·min(max(0, x + 3), 6)/6.  Shape: (…) -> (…)"""

    inplace: bool = False


class Threshold(FunctionLayer, of=F.threshold):
    """y = x where x > threshold, else value.  Shape: (…) -> (…)"""

    threshold: float
    value: float
    inplace: bool = False


class GLU(FunctionLayer, of=F.glu):
    """y = a·sigmoid(b), a and b the halves of x along `dim`.  Shape: (…, 2n, …) -> (…, n, …)"""

    dim: int = -1


class Softmax(FunctionLayer, of=F.softmax):
    """yᵢ = exp(xᵢ)/Σⱼ exp(xⱼ) along `dim`.  Shape: (…) -> (…)"""

    dim: int | None = None


class Softmax2d(Module):
    """Softmax over the channels of images.  Shape: (N, C, H, W) or (C, H, W) -> the same"""

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, dim=-3)


class LogSoftmax(FunctionLayer, of=F.log_softmax):
    """yᵢ = xᵢ − ln Σⱼ exp(xⱼ) along `dim`.  Shape: (…) -> (…)"""

    dim: int | None = None


class Softmin(FunctionLayer, of=F.softmin):
    """yᵢ = exp(−xᵢ)/Σⱼ exp(−xⱼ) along `dim`.  Shape: (…) -> (…)"""

    dim: int | None = None
