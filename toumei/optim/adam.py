"""Adam and its kin: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

from .optimizer import Group, Optimizer, Params, State, descent, move_on, need


class Adam(Optimizer):
    """Adaptive moment estimation.

    m ← β₁·m + (1 − β₁)·g;   v ← β₂·v + (1 − β₂)·g²
    p ← p − lr·m̂/(√v̂ + eps),   m̂ = m/(1 − β₁ᵗ),   v̂ = v/(1 − β₂ᵗ)

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        betas: how much of each running mean is kept from step to step.
        eps: keeps the division finite.
        weight_decay: adds weight_decay·p to the gradient.
        amsgrad: use the largest v that there has been.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Paper: Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2014); Reddi et al., "On the
        Convergence of Adam and Beyond" (2018) for `amsgrad`

    >>> import toumei as tm
    >>> p = tm.tensor([1.0], requires_grad=True)
    >>> optimizer = tm.optim.Adam([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step(); p
    tensor([0.9], requires_grad=True)
    """

    decoupled: ClassVar[bool] = False  # weight decay shrinks p itself, not through g

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "eps", "weight_decay")
        need_betas(group)

    def slots(self, group: Group) -> dict[str, float]:
        slots = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
        return {**slots, "max_exp_avg_sq": 0.0} if group["amsgrad"] else slots

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        lr, (beta1, beta2) = group.live("lr"), group.live("betas")
        g = decay(p, g, group, lr) if self.decoupled else descent(p, g, group)
        m, v = moments(g, s, beta1, beta2)
        if group["amsgrad"]:
            largest = s["max_exp_avg_sq"]
            largest += xp.maximum(v - largest, 0)
            v = largest
        # One trip less through the arrays: m̂/(√v̂ + eps) = c/(1 − β₁ᵗ) · m/(√v + c·eps)
        c = (1 - beta2**t) ** 0.5
        p -= (lr * c / (1 - beta1**t)) * m / (xp.sqrt(v) + group.live("eps") * c)


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← p·(1 − lr·weight_decay) before each step.

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        betas: how much of each running mean is kept from step to step.
        eps: keeps the division finite.
        weight_decay: the share of p, times lr, that each step takes away.
        amsgrad: use the largest v that there has been.
        maximize: go up instead of down.

    Paper: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2017)
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


class Adamax(Optimizer):
    """Adam by the largest gradient instead of the mean square.

    m ← β₁·m + (1 − β₁)·g;   u ← max(β₂·u, |g| + eps);   p ← p − lr·m/((1 − β₁ᵗ)·u)

    Paper: Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2014)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "eps", "weight_decay")
        need_betas(group)

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_inf": 0.0}

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        beta1, beta2 = group.live("betas")
        g = descent(p, g, group)
        m, u = s["exp_avg"], s["exp_inf"]
        m += (1 - beta1) * (g - m)
        u *= beta2
        u += xp.maximum(xp.abs(g) + group.live("eps") - u, 0)
        p -= (group.live("lr") / (1 - beta1**t)) * m / u


class NAdam(Optimizer):
    """Adam with Nesterov's momentum.

    μₜ = β₁·(1 − ½·0.96^(t·momentum_decay));   m, v as in Adam
    p ← p − lr·((1 − μₜ)·g/(1 − ∏μ) + μₜ₊₁·m/(1 − μₜ₊₁·∏μ))/(√v̂ + eps)

    Paper: Dozat, "Incorporating Nesterov Momentum into Adam" (2016)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "eps", "weight_decay", "momentum_decay")
        need_betas(group)

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def counters(self, group: Group) -> dict[str, float]:
        return {"step": 0.0, "mu_product": 1.0}

    def advance(self, state: State, group: Group) -> Any:
        t = move_on(state["step"], 1, 1)
        return t, move_on(state["mu_product"], self._mu(t, group), 0)

    @staticmethod
    def _mu(t: Any, group: Group) -> Any:
        decay = 0.96 ** (t * group.live("momentum_decay"))
        return group.live("betas")[0] * (1 - 0.5 * decay)

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        t, product = t
        lr, (beta1, beta2) = group.live("lr"), group.live("betas")
        decoupled = group["decoupled_weight_decay"]
        g = decay(p, g, group, lr) if decoupled else descent(p, g, group)
        m, v = moments(g, s, beta1, beta2)
        mu, ahead = self._mu(t, group), self._mu(t + 1, group)
        part = (lr * (1 - mu) / (1 - product)) * g + (lr * ahead / (1 - product * ahead)) * m
        p -= part / (xp.sqrt(v) * (1 - beta2**t) ** -0.5 + group.live("eps"))


class RAdam(Optimizer):
    """Adam whose scaling sets in once enough steps have been seen.

    ρ = 2/(1 − β₂) − 1;   ρₜ = ρ − 2t·β₂ᵗ/(1 − β₂ᵗ);   m̂, v̂ as in Adam
    p ← p − lr·m̂·r/√v̂ where ρₜ > 5, with r² = (ρₜ−4)(ρₜ−2)ρ/((ρ−4)(ρ−2)ρₜ);   else p − lr·m̂

    Paper: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (2019)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "eps", "weight_decay")
        need_betas(group)

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        lr, (beta1, beta2) = group.live("lr"), group.live("betas")
        decoupled = group["decoupled_weight_decay"]
        g = decay(p, g, group, lr) if decoupled else descent(p, g, group)
        m, v = moments(g, s, beta1, beta2)
        step = (lr / (1 - beta1**t)) * m
        if group["betas"][1] > 2 / 3:  # else ρₜ < ρ ≤ 5 for ever
            late, factor = self._rectify(beta2, t)
            step = step * (late * factor / (xp.sqrt(v) + group.live("eps")) + (1 - late))
        p -= step

    @staticmethod
    def _rectify(beta2: Any, t: Any) -> tuple[Any, Any]:
        """Return whether ρₜ > 5, as 1 or 0, and r·√(1 − β₂ᵗ)."""
        rest = 1 - beta2**t
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * t * beta2**t / rest
        late = (rho > 5) * 1.0
        rho = rho * late + 6 * (1 - late)  # something to take a root of where it doesn't count
        r2 = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
        return late, (r2 * rest) ** 0.5


def moments(g: Any, s: State, beta1: Any, beta2: Any) -> tuple[Any, Any]:
    """Move the running means of g and g² on, and return them."""
    m, v = s["exp_avg"], s["exp_avg_sq"]
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * g * g
    return m, v


def decay(p: Any, g: Any, group: Group, lr: Any) -> Any:
    """Shrink p itself (decoupled weight decay); return the gradient to go down."""
    if group.on("weight_decay"):
        p *= 1 - lr * group.live("weight_decay")
    return -g if group["maximize"] else g


def need_betas(group: Group) -> None:
    """Refuse betas that aren't two numbers in [0, 1)."""
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers, got {betas!r:.60}")
    need(group, 0, "betas", below=1)
