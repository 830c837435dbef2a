"""DCGAN learns to draw digits from noise.

The distance is in the features of the package's own judge, so that no published figure compares;
`summary.json` names that of real digits, which no generator can be expected to pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import nn, optim
from ..models.gan import DCGAN
from ..ops import ones_like, zeros_like
from ..tensor import Tensor
from ..train import Trainer
from .generators import GANTrainer, GeneratorRecipe, averaged, network
from .recipe import Budget, Facts


class DCGANTrainer(GANTrainer):
    """One step: the discriminator learns from real and generated digits, then the generator."""

    compiled = ("training_step",)

    def training_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        real = batch[0]
        generator, discriminator = self.model.generator, self.model.discriminator
        fake = generator(self.noise(len(real)))

        self.optimizer_d.zero_grad()
        said_real, said_fake = discriminator(real), discriminator(fake.detach())
        loss_d = self.loss(said_real, ones_like(said_real)) + self.loss(
            said_fake, zeros_like(said_fake)
        )
        loss_d.backward()
        self.optimizer_d.step()

        self.optimizer.zero_grad()
        said = discriminator(fake)
        loss_g = self.loss(said, ones_like(said))  # not log(1 − D): its slope would vanish
        loss_g.backward(inputs=list(generator.parameters()))
        self.optimizer.step()
        return {"loss_d": loss_d.detach(), "loss_g": loss_g.detach()}


class GANRecipe(GeneratorRecipe):
    """DCGAN on MNIST, measured with a moving average of the generator's weights."""

    name = "gan"
    title = "DCGAN on MNIST"
    source = "Radford et al., 2016 (digits to look at; no figure)"

    def plan(self, sample: bool, preset: str) -> tuple[Budget, float | None, Facts]:
        if preset == "fast":
            return Budget(epochs=10, batch_size=32, lr=4e-3, samples=7200), None, network(24)
        if sample:
            return Budget(epochs=25, batch_size=32, lr=2e-3), 3.0, network(32)
        return Budget(epochs=12, batch_size=64, lr=1e-3), 1.5, network(64)

    def model(self, facts: Facts) -> DCGAN:
        return DCGAN(facts["latent"], facts["width"])

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        betas = (0.5, 0.999)
        generator = optim.Adam(model.generator.parameters(), budget.lr, betas)
        discriminator = optim.Adam(model.discriminator.parameters(), budget.lr / 2, betas)
        steps = budget.epochs * steps_per_epoch
        more = averaged(model, generator, discriminator, steps)
        return DCGANTrainer(model, generator, discriminator, **more)


RECIPE = GANRecipe()
