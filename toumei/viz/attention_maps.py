"""attention_maps: where each attention of a model looks."""

from __future__ import annotations

from typing import Any, TypeAlias

from ..config import grad_mode
from ..errors import ModuleError
from ..nn.attention import MultiheadAttention
from ..nn.module import Module
from ..op import Array
from ..tensor import Tensor

Maps: TypeAlias = dict[str, Array]

# MultiheadAttention.forward's arguments, as some may be given by place.
_ARGUMENTS = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask",
              "average_attn_weights", "is_causal")  # fmt: skip


def attention_maps(model: Module, *inputs: Any, **kwargs: Any) -> Maps:
    """Return the weights of every attention while the model is called on some inputs.

    The model is evaluated (no dropout) and keeps no trace of it; its attentions return to it what
    it asks them for, with weights or without.

    Args:
        model: any module with nn.MultiheadAttention within.
        inputs: the model's arguments.
        kwargs: its arguments by name.

    Returns:
        Arrays (N, heads, L, S) by the attention's name; row i says how much query i takes from
        each key; it is NaN for a query that may look nowhere.  Of an attention that is called
        several times the last call counts; one that isn't called is left out.

    Raises:
        ModuleError: the model has no nn.MultiheadAttention.

    >>> import toumei as tm
    >>> from toumei import nn, viz
    >>> layer = nn.TransformerEncoderLayer(8, nhead=2, batch_first=True)
    >>> maps = viz.attention_maps(nn.TransformerEncoder(layer, 2), tm.ones(3, 5, 8))
    >>> {name: weights.shape for name, weights in maps.items()}
    {'layers.0.self_attn': (3, 2, 5, 5), 'layers.1.self_attn': (3, 2, 5, 5)}
    """
    names = {id(m): n for n, m in model.named_modules() if isinstance(m, MultiheadAttention)}
    if not names:
        raise ModuleError(f"attention_maps: {type(model).__name__} has no nn.MultiheadAttention")
    maps: Maps = {}

    def note(module: Module, args: tuple[Any, ...], kw: dict[str, Any], _: Any) -> None:
        maps[names[id(module)]] = _weights(module, args, kw)

    modules = list(model.modules())
    training = [m.training for m in modules]
    handles = [m.register_forward_hook(note, with_kwargs=True) for m in modules if id(m) in names]
    try:
        with grad_mode(False):
            model.eval()(*inputs, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        for m, mode in zip(modules, training, strict=True):
            m.training = mode
    return maps


def _weights(attention: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute the weights of one call of an attention, of each head."""
    given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
    given |= {"need_weights": True, "average_attn_weights": False}
    weights: Tensor = attention.forward(**given)[1]
    array = weights.numpy()
    return array if array.ndim == 4 else array[None]
