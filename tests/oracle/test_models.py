"""The models of the package against the same networks in PyTorch, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")


def assert_same_gradients(ours: Any, theirs: dict[str, Any], atol: float = 1e-10) -> None:
    """Parameter by parameter; `theirs` are PyTorch's parameters by our names."""
    for name, parameter in ours.named_parameters():
        expected = theirs[name].grad.numpy()
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=atol, err_msg=name)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch on its speed
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer(norm_first: bool) -> None:
    from toumei.models.transformer import Transformer

    tm.manual_seed(0)
    sizes = {"d_model": 16, "dropout": 0.0, "norm_first": norm_first}
    ours = Transformer(
        11, 13, heads=4, encoder_layers=2, decoder_layers=2, feedforward=24, **sizes
    ).double()  # fmt: skip
    core = torch.nn.Transformer(16, 4, 2, 2, 24, 0.0, batch_first=True, norm_first=norm_first)
    names = {name: torch.from_numpy(p.detach().numpy().copy()).requires_grad_()
             for name, p in ours.named_parameters()}  # fmt: skip
    core = core.double()
    core.load_state_dict({n.removeprefix("transformer."): p.detach() for n, p in names.items()
                          if n.startswith("transformer.")})  # fmt: skip
    names |= {f"transformer.{name}": p for name, p in core.named_parameters()}
    source = np.array([[4, 5, 6, 7, 3], [8, 9, 3, 0, 0]])
    target = np.array([[2, 5, 7, 12, 3], [2, 4, 3, 0, 0]])

    def embed(table: Any, words: Any) -> Any:
        place, feature = np.arange(words.shape[1])[:, None], np.arange(16)[None]
        angle = place / 10000 ** (feature // 2 * 2 / 16)
        wave = np.where(feature % 2 == 0, np.sin(angle), np.cos(angle))
        return table[torch.from_numpy(words)] * 4 + torch.from_numpy(wave.astype(np.float32))

    padding = torch.from_numpy(source == 0)
    table = names["target_embedding.weight"]
    y = core(
        embed(names["source_embedding.weight"], source), embed(table, target[:, :-1]),
        tgt_mask=core.generate_square_subsequent_mask(4, dtype=torch.float64), tgt_is_causal=True,
        src_key_padding_mask=padding, memory_key_padding_mask=padding,
    )  # fmt: skip
    theirs = y @ table.T + names["output.bias"]
    options: dict[str, Any] = {"ignore_index": 0, "label_smoothing": 0.1}
    labels = target[:, 1:].reshape(-1)
    expected = torch.nn.functional.cross_entropy(
        theirs.flatten(0, 1), torch.from_numpy(labels), **options
    )
    expected.backward()
    scores = ours(tm.from_numpy(source), tm.from_numpy(target[:, :-1]))
    found = tm.nn.functional.cross_entropy(scores.flatten(0, 1), tm.from_numpy(labels), **options)
    found.backward()
    np.testing.assert_allclose(scores.detach().numpy(), theirs.detach().numpy(), atol=1e-10)
    assert float(found) == pytest.approx(expected.item(), abs=1e-10)
    assert_same_gradients(ours, names)


def _gpt_names(layers: int) -> dict[str, str]:
    """PyTorch's names of the parameters of its encoder layers, by ours."""
    pairs = {"ln_1.weight": "norm1.weight", "ln_1.bias": "norm1.bias",
             "ln_2.weight": "norm2.weight", "ln_2.bias": "norm2.bias",
             "attn.c_attn.weight": "self_attn.in_proj_weight",
             "attn.c_attn.bias": "self_attn.in_proj_bias",
             "attn.c_proj.weight": "self_attn.out_proj.weight",
             "attn.c_proj.bias": "self_attn.out_proj.bias",
             "mlp.c_fc.weight": "linear1.weight", "mlp.c_fc.bias": "linear1.bias",
             "mlp.c_proj.weight": "linear2.weight", "mlp.c_proj.bias": "linear2.bias"}  # fmt: skip
    return {
        f"transformer.h.{k}.{ours}": f"h.{k}.{theirs}"
        for k in range(layers)
        for ours, theirs in pairs.items()
    }


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gpt(approximate: str) -> None:
    from toumei.models.gpt import GPT

    tm.manual_seed(0)
    ours = GPT(11, 16, 2, 4, 8, dropout=0.0, approximate=approximate).double()
    for p in ours.parameters():  # so that biases and norms count
        tm.nn.init.normal_(p, std=0.3)

    def activation(x: Any) -> Any:
        return torch.nn.functional.gelu(x, approximate=approximate)

    layers = [torch.nn.TransformerEncoderLayer(16, 4, 64, 0.0, activation, batch_first=True,
                                               norm_first=True) for _ in range(2)]  # fmt: skip
    core = torch.nn.ModuleDict({"h": torch.nn.ModuleList(layers)}).double()
    names = _gpt_names(2)
    state = {n: torch.from_numpy(p.detach().numpy().copy()) for n, p in ours.named_parameters()}
    core.load_state_dict({names[n]: p for n, p in state.items() if n in names})
    inside = dict(core.named_parameters())
    theirs = {n: inside[names[n]] if n in names else p.requires_grad_() for n, p in state.items()}
    tokens = np.array([[1, 5, 10, 0, 3], [7, 7, 2, 9, 4]])
    table = theirs["transformer.wte.weight"]
    x = table[torch.from_numpy(tokens)] + theirs["transformer.wpe.weight"][:5]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    for layer in core["h"]:
        x = layer(x, src_mask=mask, is_causal=True)
    norm = theirs["transformer.ln_f.weight"], theirs["transformer.ln_f.bias"]
    expected = torch.nn.functional.layer_norm(x, (16,), *norm) @ table.T
    weights = np.random.default_rng(0).normal(size=(2, 5, 11))
    (expected * torch.from_numpy(weights)).sum().backward()
    scores = ours(tm.from_numpy(tokens))
    (scores * tm.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(scores.detach().numpy(), expected.detach().numpy(), atol=1e-10)
    assert_same_gradients(ours, theirs, 1e-9)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_char_rnn(kind: str) -> None:
    from toumei.models.rnn import CharRNN

    tm.manual_seed(0)
    ours = CharRNN(7, 5, 6, layers=2, kind=kind).double()
    parts = {
        "embedding": torch.nn.Embedding(7, 5),
        "rnn": getattr(torch.nn, kind.upper())(5, 6, 2, batch_first=True),
        "head": torch.nn.Linear(6, 7),
    }
    core = torch.nn.ModuleDict(parts).double()
    core.load_state_dict({n: torch.from_numpy(p.numpy()) for n, p in ours.state_dict().items()})
    characters = np.array([[1, 5, 6, 0], [2, 2, 3, 4]])
    expected = core["head"](core["rnn"](core["embedding"](torch.from_numpy(characters)))[0])
    weights = np.random.default_rng(0).normal(size=(2, 4, 7))
    (expected * torch.from_numpy(weights)).sum().backward()
    scores = ours(tm.from_numpy(characters))
    (scores * tm.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(scores.detach().numpy(), expected.detach().numpy(), atol=1e-10)
    assert_same_gradients(ours, dict(core.named_parameters()))


def _twin(module: Any, ours: Any) -> Any:
    """Give a PyTorch module, with our names, the weights of ours, in float64."""
    module = module.double()
    module.load_state_dict({n: torch.tensor(v.numpy()) for n, v in ours.state_dict().items()})
    return module.train()


def _assert_same_state(ours: Any, theirs: Any, atol: float) -> None:
    found, expected = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=atol, err_msg=name)


def _torch_generator() -> Any:
    class Generator(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            up: Any = torch.nn.ConvTranspose2d
            self.input = torch.nn.Linear(6, 16 * 16, bias=False)
            self.norm1, self.up1 = torch.nn.BatchNorm2d(16), up(16, 8, 3, 2, 1, bias=False)
            self.norm2, self.up2 = torch.nn.BatchNorm2d(8), up(8, 4, 4, 2, 1, bias=False)
            self.norm3, self.up3 = torch.nn.BatchNorm2d(4), up(4, 1, 4, 2, 1)

        def forward(self, z: Any) -> Any:
            h = torch.relu(self.norm1(self.input(z).unflatten(1, (16, 4, 4))))
            h = torch.relu(self.norm2(self.up1(h)))
            return torch.tanh(self.up3(torch.relu(self.norm3(self.up2(h)))))

    return Generator()


def _torch_discriminator() -> Any:
    class Discriminator(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            down: Any = torch.nn.Conv2d
            self.down1 = down(1, 4, 4, 2, 1)
            self.down2, self.norm2 = down(4, 8, 4, 2, 1, bias=False), torch.nn.BatchNorm2d(8)
            self.down3, self.norm3 = down(8, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16)
            self.output = torch.nn.Linear(16 * 16, 1)

        def forward(self, image: Any) -> Any:
            leaky = torch.nn.functional.leaky_relu
            h = self.norm2(self.down2(leaky(self.down1(image), 0.2)))
            h = self.norm3(self.down3(leaky(h, 0.2)))
            return self.output(leaky(h, 0.2).flatten(1))

    return Discriminator()


def _torch_critic() -> Any:
    class Critic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down1 = torch.nn.Conv2d(1, 4, 4, 2, 1)
            self.down2 = torch.nn.Conv2d(4, 8, 4, 2, 1)
            self.down3 = torch.nn.Conv2d(8, 16, 3, 2, 1)
            self.output = torch.nn.Linear(16 * 16, 1)

        def forward(self, h: Any) -> Any:
            for layer in (self.down1, self.down2, self.down3):
                h = torch.nn.functional.leaky_relu(layer(h), 0.2)
            return self.output(h.flatten(1))

    return Critic()


def _images(seed: int, count: int = 5) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 1, 28, 28))


def test_dcgan_learns_as_its_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps, of the discriminator and the generator each, from the same noise."""
    from toumei.models.gan import DCGAN
    from toumei.recipes.gan import DCGANTrainer

    tm.manual_seed(0)
    ours = DCGAN(latent=6, width=4).double()
    generator = _twin(_torch_generator(), ours.generator)
    opponent = _twin(_torch_discriminator(), ours.discriminator)
    theirs = [torch.optim.Adam(m.parameters(), 1e-2, (0.5, 0.999)) for m in (generator, opponent)]
    trainer = DCGANTrainer(
        ours,
        tm.optim.Adam(ours.generator.parameters(), 1e-2, (0.5, 0.999)),
        tm.optim.Adam(ours.discriminator.parameters(), 1e-2, (0.5, 0.999)),
    )
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    for step in range(2):
        real, noise = _images(step), np.random.default_rng(9 + step).normal(size=(5, 6))
        monkeypatch.setattr(trainer, "noise", lambda count, z=noise: tm.from_numpy(z))
        losses = trainer.training_step([tm.from_numpy(real)])
        fake = generator(torch.tensor(noise))
        theirs[1].zero_grad()
        yes, no = opponent(torch.tensor(real)), opponent(fake.detach())
        loss_d = bce(yes, torch.ones_like(yes)) + bce(no, torch.zeros_like(no))
        loss_d.backward()
        theirs[1].step()
        theirs[0].zero_grad()
        loss_g = bce(opponent(fake), torch.ones_like(yes))
        loss_g.backward()
        theirs[0].step()
        assert float(losses["loss_d"]) == pytest.approx(loss_d.item(), abs=1e-9)
        assert float(losses["loss_g"]) == pytest.approx(loss_g.item(), abs=1e-9)
    _assert_same_state(ours.generator, generator, 1e-8)
    _assert_same_state(ours.discriminator, opponent, 1e-8)


def test_wgan_learns_as_its_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of the critic, with a gradient of a gradient, then one of the generator."""
    from toumei.models.wgan import WGAN
    from toumei.recipes import wgan

    tm.manual_seed(0)
    ours = WGAN(latent=6, width=4).double()
    generator = _twin(_torch_generator(), ours.generator)
    critic = _twin(_torch_critic(), ours.critic)
    theirs = [torch.optim.Adam(m.parameters(), 1e-2, (0.0, 0.9)) for m in (generator, critic)]
    trainer = wgan.WGANTrainer(
        ours,
        tm.optim.Adam(ours.generator.parameters(), 1e-2, (0.0, 0.9)),
        tm.optim.Adam(ours.critic.parameters(), 1e-2, (0.0, 0.9)),
    )
    noise, place = np.random.default_rng(5).normal(size=(5, 6)), np.linspace(0, 1, 5)
    place = place.reshape(5, 1, 1, 1)
    monkeypatch.setattr(trainer, "noise", lambda count: tm.from_numpy(noise))
    monkeypatch.setattr(wgan, "rand", lambda *size: tm.from_numpy(place))
    for step in range(2):
        real = torch.tensor(_images(step))
        found = trainer.critic_step(tm.from_numpy(real.numpy()))
        fake, at = generator(torch.tensor(noise)).detach(), torch.tensor(place)
        between = (at * real + (1 - at) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        theirs[1].zero_grad()
        loss.backward()
        theirs[1].step()
        assert float(found["loss_d"]) == pytest.approx(loss.item(), abs=1e-9)
    found = trainer.generator_step(5)
    theirs[0].zero_grad()
    loss = -critic(generator(torch.tensor(noise))).mean()
    loss.backward()
    theirs[0].step()
    assert float(found["loss_g"]) == pytest.approx(loss.item(), abs=1e-9)
    _assert_same_state(ours.critic, critic, 1e-8)
    _assert_same_state(ours.generator, generator, 1e-8)


def test_vae_loss_and_gradients() -> None:
    """Written as in the paper: probabilities and their logarithms, not scores."""
    from toumei.models.vae import VAE, vae_loss

    tm.manual_seed(0)
    ours = VAE(12, 7, 3).double()
    rng = np.random.default_rng(0)
    x, noise = rng.uniform(size=(4, 12)), rng.normal(size=(4, 3))
    p = {n: torch.tensor(v.detach().numpy(), requires_grad=True)
         for n, v in ours.named_parameters()}  # fmt: skip

    def layer(name: str, h: Any) -> Any:
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    image = torch.tensor(x)
    h = torch.relu(layer("fc1", image))
    mean, std = layer("fc21", h), torch.exp(0.5 * layer("fc22", h))
    normal = torch.distributions.Normal(mean, std)
    again = torch.sigmoid(layer("fc4", torch.relu(layer("fc3", mean + std * torch.tensor(noise)))))
    bce = torch.nn.functional.binary_cross_entropy(again, image, reduction="none").sum(1)
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    (bce + kl).sum().backward()
    scores, mu, logvar = ours(tm.from_numpy(x), tm.from_numpy(noise))
    found = vae_loss(scores, tm.from_numpy(x), mu, logvar)
    found.sum().backward()
    np.testing.assert_allclose(found.detach().numpy(), (bce + kl).detach().numpy(), atol=1e-10)
    assert_same_gradients(ours, p)
