"""Training steps of Toumei and PyTorch, in the words that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.workloads import Rule

Losses = list[Any]


def optimizer_of(lib: Any, rule: Rule, parameters: Any) -> Any:
    return getattr(lib.optim, rule.kind)(parameters, lr=rule.lr, **rule.options)


def plain_step(model: Any, loss: Callable[..., Any], optimizer: Any) -> Callable[..., Losses]:
    """Return a step of a network with one loss."""

    def step(*inputs: Any) -> Losses:
        optimizer.zero_grad()
        found = loss(model, *inputs)
        found.backward()
        optimizer.step()
        return [found]

    return step


def adversarial_step(
    loss_d: Callable[..., Any],
    loss_g: Callable[..., Any],
    pair: Any,
    optimizers: tuple[Any, Any],
) -> Callable[..., Losses]:
    """Return a step of a GAN: the discriminator learns, then the generator."""
    optimizer_g, optimizer_d = optimizers

    def step(real: Any, noise: Any) -> Losses:
        fake = pair.generator(noise)
        optimizer_d.zero_grad()
        of_d = loss_d(pair.discriminator, real, fake.detach())
        of_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        of_g = loss_g(pair.discriminator, fake)
        of_g.backward(inputs=list(pair.generator.parameters()))  # none for the discriminator
        optimizer_g.step()
        return [of_d, of_g]

    return step


def adversarial_losses(lib: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the losses of the discriminator and of the generator."""
    cross_entropy = lib.nn.functional.binary_cross_entropy_with_logits

    def of_discriminator(discriminator: Any, real: Any, fake: Any) -> Any:
        said_real, said_fake = discriminator(real), discriminator(fake)
        return cross_entropy(said_real, lib.ones_like(said_real)) + cross_entropy(
            said_fake, lib.zeros_like(said_fake)
        )

    def of_generator(discriminator: Any, fake: Any) -> Any:
        said = discriminator(fake)
        return cross_entropy(said, lib.ones_like(said))

    return of_discriminator, of_generator
