"""FunctionLayer: a layer that is one function with options, written as the list of its options.

    class LeakyReLU(FunctionLayer, of=F.leaky_relu):
        \"\"\"y = max(0, x) + negative_slope·min(0, x)\"\"\"

        negative_slope: float = 0.01

The annotated names become the arguments of `LeakyReLU(…)` in that order, those after `_: KW_ONLY`
by keyword only; calling the layer calls the function with its inputs and these options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from ..errors import ModuleError
from ..tensor import Parameter, Tensor
from .module import Module, _as_buffer
from .state import nearest

if TYPE_CHECKING:
    import inspect


class _Signature:
    """What `inspect.signature` and editors show, made from the options when asked for."""

    def __get__(self, layer: object, cls: type[FunctionLayer]) -> inspect.Signature:
        import inspect

        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        return inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    kinds[i >= cls._positional],
                    default=getattr(cls, name, inspect.Parameter.empty),
                    annotation=cls._types[name],
                )
                for i, name in enumerate(cls._options)
            ]
        )


@dataclass_transform()
class FunctionLayer(Module):
    """A layer that is one function with options: see the top of this file."""

    _function: ClassVar[Callable[..., Any]]
    _options: ClassVar[tuple[str, ...]] = ()
    _types: ClassVar[dict[str, str]] = {}
    _positional: ClassVar[int] = 0  # how many options may be given without their name

    def __init_subclass__(cls, of: Callable[..., Any] | None = None) -> None:
        if of is not None:
            cls._function = staticmethod(of)
        own = {n: str(t) for n, t in vars(cls).get("__annotations__", {}).items()}
        own = {n: t for n, t in own.items() if not t.startswith("ClassVar")}
        abstract = not hasattr(cls, "_function")
        if own and (of is not None or abstract):  # else they are a user's business
            names = list(own)
            cls._positional = names.index("_") if "_" in own else len(names)
            cls._options = tuple(n for n in names if n != "_")
            cls._types = own
        if "__init__" not in vars(cls):
            cls.__signature__ = _Signature()  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name, value in self._bind(args, kwargs).items():
            if isinstance(value, Tensor):
                self._refuse_input(name)
                value = value if isinstance(value, Parameter) else _as_buffer(value, True)
            setattr(self, name, value)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the value of each option."""
        kind, options = type(self).__name__, self._options
        if args and isinstance(args[0], Tensor):
            self._refuse_input(options[0] if options else "")
        if len(args) > self._positional:
            raise TypeError(
                f"{kind}() takes {self._positional} positional arguments, got {len(args)}; "
                f"its options are {', '.join(options) or 'none'}"
            )
        given = dict(zip(options, args, strict=False))
        for name in kwargs:
            if name not in options or name in given:
                near = nearest(name, options)
                what = "two values for" if name in given else "an unknown option"
                hint = f"; did you mean {near!r}?" if near and near != name else ""
                raise TypeError(f"{kind}() got {what} {name!r}{hint}")
        given |= kwargs
        for name in options:
            if name not in given and not hasattr(type(self), name):
                raise TypeError(f"{kind}() needs a value for {name!r}")
        return {name: given.get(name, getattr(type(self), name, None)) for name in options}

    def _refuse_input(self, option: str) -> None:
        """Refuse a tensor where an option was expected: `nn.MSELoss(prediction, target)`."""
        if "Tensor" not in self._types.get(option, ""):
            kind = type(self).__name__
            raise ModuleError(
                f"{kind}(…) makes a layer and takes options, not its input. Make it first, then "
                f"call it: {kind}()(x)"
            )

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Call the function with the inputs and this layer's options."""
        options = {name: getattr(self, name) for name in self._options}
        return self._function(*inputs, **named, **options)

    def extra_repr(self) -> str:
        values = {name: getattr(self, name) for name in self._options}
        return ", ".join(f"{n}={v!r}" for n, v in values.items() if self._is_worth_showing(n, v))

    def _is_worth_showing(self, name: str, value: Any) -> bool:
        return value is not None and value is not False and not isinstance(value, Tensor)
