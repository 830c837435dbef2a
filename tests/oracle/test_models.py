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
