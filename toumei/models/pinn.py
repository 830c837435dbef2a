"""Physics-informed neural network: a network that is trained to obey a differential equation.

Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", Journal of Computational
Physics 378 (2019); weights start as in Glorot and Bengio (AISTATS 2010), as they did there.
"""

from __future__ import annotations

from itertools import pairwise

from .. import nn
from ..autograd import grad
from ..ops import cat
from ..tensor import Tensor


class PINN(nn.Module):
    """u(x, t) as a smooth function: linear layers with tanh in between.

    h₀ = (x, 2t − 1);  hᵢ = tanh(Wᵢ·hᵢ₋₁ + bᵢ);  u = W·h + b

    Shape: x (N, 1), t (N, 1) -> (N, 1)

    Args:
        width: values in each hidden layer.
        depth: hidden layers.

    >>> import toumei as tm
    >>> PINN(20, 8)(tm.zeros(5, 1), tm.zeros(5, 1)).shape
    Size([5, 1])
    """

    def __init__(self, width: int = 20, depth: int = 8) -> None:
        widths = [2, *[width] * depth]
        self.hidden = [nn.Linear(n, m) for n, m in pairwise(widths)]
        self.output = nn.Linear(width, 1)
        for p in self.parameters():
            (nn.init.xavier_normal_ if p.ndim == 2 else nn.init.zeros_)(p)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = cat([x, 2 * t - 1], dim=1)  # (N, 2), both within ±1
        for layer in self.hidden:
            h = layer(h).tanh()  # (N, width)
        return self.output(h)  # (N, 1)


def burgers_residual(u: nn.Module, x: Tensor, t: Tensor, nu: float) -> Tensor:
    """By how much a network misses the Burgers equation: f = u_t + u·u_x − nu·u_xx.

    The derivatives are exact, and the result can be differentiated again, by the weights.

    Shape: x (N, 1), t (N, 1) -> (N, 1)

    Args:
        u: the network, a function of x and t, each row apart from the others.
        x, t: places and times.
        nu: the viscosity.

    >>> import toumei as tm
    >>> class Wave(nn.Module):  # u = x / (1 + t) is a solution without viscosity
    ...     def forward(self, x, t): return x / (1 + t)
    >>> x, t = tm.rand(4, 1), tm.rand(4, 1)
    >>> bool(burgers_residual(Wave(), x, t, nu=0.0).abs().max() < 1e-6)
    True
    """
    x = x.detach().requires_grad_()
    t = t.detach().requires_grad_()
    value = u(x, t)
    # The sum's derivative by row i is that of row i's own value: rows don't depend on each other.
    u_x, u_t = grad(value.sum(), [x, t], create_graph=True)
    (u_xx,) = grad(u_x.sum(), x, create_graph=True, materialize_grads=True)  # 0 if u is linear
    return u_t + value * u_x - nu * u_xx
