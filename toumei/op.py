"""What an op is: one class that says how to compute, how to differentiate and what to refuse.

    @op
    class Tanh(Elementwise):
        \"\"\"tanh(x);   dy/dx = 1 − y²\"\"\"

        def forward(self, xp, x):    # arrays -> array;  xp is NumPy
            return xp.tanh(x)

        def backward(self, gy, y):   # Tensors -> Tensor: differentiable again
            return gy * (1 - y * y)

An op with several inputs gives one gradient per input, `backward_<input>`, so that nothing is
computed or kept for an input that needs no gradient; `backward` may instead return all of them at
once, as a tuple.  The parameter names after `gy` say what is kept until the backward pass:

    y           the output                     ys          all outputs, of an op with several
    <input>     that input                     <input>_spec, y_spec    only its shape and dtype
    *<inputs>   the variadic inputs (named as in `forward`), or `*<inputs>_spec`

An elementwise op may say how an element of its output is computed from those of its inputs, in the
compiler's builder `b`; see `compiler/scalar.py`.  Without it, compiled steps run `forward`; also
where it returns None: for arguments that it doesn't suit.

        def lower(self, b, x):       # one element: native code
            return b.tanh(x)

Several outputs: `forward` returns a tuple and `backward` gets `gys`, a tuple with None where no
gradient arrived.  The *kind* of an op (Elementwise, Reduction, View …) gives it the rest.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar, dataclass_transform

import numpy as np

from .config import DTYPES
from .errors import OpError, OpIndexError, OpTypeError

Array: TypeAlias = np.ndarray[Any, Any]
DType: TypeAlias = np.dtype[Any]
T = TypeVar("T", bound="type[Op]")

RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}
_CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2}


class Spec:
    """The shape and dtype of a tensor, without its numbers; `weak` marks a Python number."""

    __slots__ = ("dtype", "shape", "weak")

    def __init__(self, shape: tuple[int, ...], dtype: DType, weak: bool = False) -> None:
        self.shape = shape
        self.dtype = dtype
        self.weak = weak

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[tuple[int, ...], DType, bool]:
        return self.shape, self.dtype, self.weak

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def repeated_zero(spec: Spec) -> Array:
    """Return zeros of a shape and dtype, to be read only: one lies in memory, for all of them."""
    return np.broadcast_to(np.zeros((), spec.dtype), spec.shape)


class Case(NamedTuple):
    """An op and arrays to call it with: what the generated tests run."""

    op: Op
    inputs: tuple[Array, ...]


class Refused(Exception):  # noqa: N818  (it is a reason on its way into an OpError)
    """Raised by `infer` and `check`: the reason why the arguments can't be taken."""

    error: type[OpError] = OpError


class RefusedIndex(Refused):
    """… because an index or a dimension is out of range."""

    error = OpIndexError


class RefusedType(Refused):
    """… because of a dtype."""

    error = OpTypeError


class Gradient(NamedTuple):
    """One gradient function of an op: which input it serves and what it wants kept."""

    function: str  # the method's name
    input: int | None  # None: all inputs, as a tuple
    wants: tuple[Want, ...]


class Want(NamedTuple):
    """A value that a gradient function wants kept."""

    kind: str  # "value", or "spec": only its shape and dtype
    source: str  # "input" or "output"
    place: int | slice  # which; a slice where several are wanted, as a tuple


#: All ops by name, in the order of their definition.
REGISTRY: dict[str, type[Op]] = {}

#: What is asked before an op's `forward`, with the op and its arrays: it may return None.
NATIVE: dict[type[Op], Callable[[Op, list[Array]], Any]] = {}


@dataclass_transform(frozen_default=True)
class Op:
    """The base of all ops.  Instances are frozen: fields say *what*, inputs are arrays."""

    name: ClassVar[str] = ""  # as the user calls it: "matmul"
    fields: ClassVar[tuple[str, ...]] = ()
    params: ClassVar[tuple[str, ...]] = ()  # names of the inputs, from `forward`
    variadic: ClassVar[bool] = False
    gradients: ClassVar[tuple[Gradient, ...]] = ()
    is_view: ClassVar[bool] = False  # the output may share the first input's memory
    broadcasts: ClassVar[bool] = False  # gradients are summed back to the input's shape
    promote: ClassVar[str] = ""  # "": leave dtypes; "common"; "float": common, ints to float
    exempt: ClassVar[dict[str, str]] = {}  # checks that the op can't pass, and why: see testing.py
    by_user: ClassVar[bool] = False  # code of the user's computes its gradients
    promote_from: ClassVar[int] = 0  # the first input that promotion looks at

    forward: ClassVar[Callable[..., Any]]
    infer: ClassVar[Callable[..., Any]]
    check: ClassVar[Callable[..., None] | None] = None  # runs always; for what NumPy lets pass
    bounds: ClassVar[Callable[..., None] | None] = None  # indices that `forward` refuses by itself

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = dict(zip(self.fields, args, strict=False))
        values.update(kwargs)
        self.__dict__.update(values)
        for field in self.fields:
            if field not in values and not hasattr(type(self), field):
                raise TypeError(f"{type(self).__name__} needs a value for its field {field!r}")
        if len(args) > len(self.fields) or values.keys() - set(self.fields):
            raise TypeError(
                f"{type(self).__name__} has the fields {self.fields}, got {args}, {kwargs}"
            )

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(f"ops are frozen: {type(self).__name__}.{key} can't be set")

    def __repr__(self) -> str:
        values = ", ".join(f"{f}={getattr(self, f)!r}" for f in self.fields)
        return f"{type(self).__name__}({values})"

    def token(self) -> tuple[Any, ...]:
        """Return a hashable key, equal only for ops that compute the same bits."""
        return (type(self).__name__, *[token(getattr(self, f)) for f in self.fields])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        """Yield arguments on which the generated tests check the op."""
        raise NotImplementedError(f"{cls.__name__} has no samples")

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        """Yield arguments that must be refused, each with words of the message."""
        return iter(())


_PLAIN = (int, str, bool, type(None))


def token(value: Any) -> Any:
    """Return a canonical hashable form of a field: types and float bits count (2 is not 2.0)."""
    if isinstance(value, _PLAIN):
        return type(value).__name__, value
    if isinstance(value, np.dtype):
        return "dtype", value.str
    if isinstance(value, float):
        return "float", struct.pack("<d", value).hex()
    if isinstance(value, tuple | list):
        return "tuple", *map(token, value)
    if isinstance(value, slice):
        return "slice", token(value.start), token(value.stop), token(value.step)
    if value is Ellipsis:
        return ("...",)
    if isinstance(value, Op):
        return value.token()
    raise TypeError(f"an op's field can't hold {type(value).__name__}: arrays are inputs")


def op(cls: T) -> T:
    """Freeze a class as an op and register it: its annotations become its fields."""
    annotations = [
        a for c in reversed(cls.__mro__) for a in vars(c).get("__annotations__", {}).items()
    ]
    cls.fields = tuple(n for n, kind in annotations if not str(kind).startswith("ClassVar"))
    if not cls.fields:
        cls.__init__ = object.__init__  # type: ignore[method-assign]
    cls.name = vars(cls).get("name") or _snake(cls.__name__)
    cls.params, cls.variadic = _parameters(cls.forward, skip=2)
    cls.gradients = tuple(_gradients(cls))
    if REGISTRY.setdefault(cls.__name__, cls) is not cls:
        raise TypeError(f"an op named {cls.__name__} exists already")
    return cls


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def _parameters(function: Callable[..., Any], skip: int) -> tuple[tuple[str, ...], bool]:
    """Return the names of a function's positional parameters, and whether it is variadic."""
    code = function.__code__
    variadic = bool(code.co_flags & 0x04)
    return code.co_varnames[skip : code.co_argcount + variadic], variadic


def _gradients(cls: type[Op]) -> Iterator[Gradient]:
    parts = [
        (i, f"backward_{p}") for i, p in enumerate(cls.params) if hasattr(cls, f"backward_{p}")
    ]
    for i, name in parts:
        yield Gradient(name, i, _wants(cls, getattr(cls, name)))
    if hasattr(cls, "backward"):
        single = 0 if len(cls.params) == 1 and not cls.variadic else None
        yield Gradient("backward", single, _wants(cls, cls.backward))
    elif hasattr(cls, "decompose") and not parts:
        wants = tuple(Want("value", "input", i) for i in range(len(cls.params)))
        yield Gradient("decompose", None, wants)


def _wants(cls: type[Op], function: Callable[..., Any]) -> tuple[Want, ...]:
    names, _ = _parameters(function, skip=2)
    wants = []
    for name in names:
        base = name.removesuffix("_spec")
        kind = "value" if base == name else "spec"
        if base in cls.params:
            i = cls.params.index(base)
            rest = cls.variadic and i == len(cls.params) - 1
            wants.append(Want(kind, "input", slice(i, None) if rest else i))
        elif base in ("y", "ys"):
            wants.append(Want(kind, "output", 0 if base == "y" else slice(None)))
        else:
            raise TypeError(
                f"{cls.__name__}.{function.__name__}: {name!r} is neither an input nor y"
            )
    return tuple(wants)


def call_text(op: Op, specs: Sequence[Spec]) -> str:
    """Write a call as "matmul(a: float32[8, 100], b: float32[50, 10])"."""
    names = itertools.chain(() if op.variadic else op.params, itertools.repeat(""))
    args = [f"{n}: {s}" if n else f"{s}" for n, s in zip(names, specs, strict=False)]
    args += [f"{f}={getattr(op, f)!r}" for f in op.fields]
    return f"{op.name}({', '.join(args)})"


# --- promotion: PyTorch's rules ------------------------------------------------------------------


def category(dtype: DType) -> int:
    """Return 0 for bool, 1 for integers, 2 for floats."""
    return _CATEGORY[dtype.kind]


@functools.lru_cache
def result_type(arguments: tuple[tuple[DType, bool, bool], ...]) -> DType:
    """Return the common dtype of arguments, each given as (dtype, is 0-d, is a Python number).

    Tensors with dimensions decide; 0-d tensors, and after them numbers, count only if their
    category (bool < integer < float) is higher.
    """
    best: DType | None = None
    groups = (
        [d for d, scalar, number in arguments if not scalar and not number],
        [d for d, scalar, number in arguments if scalar and not number],
        [d for d, _, number in arguments if number],
    )
    for group in groups:
        if group:
            dtype = DTYPES[max([RANK[d] for d in group])]
            if best is None or category(dtype) > category(best):
                best = dtype
    assert best is not None, "result_type of nothing"
    return best


def broadcast_shapes(names: tuple[str, ...], shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape that all `shapes` broadcast to; the refusal names the two that differ."""
    if shapes and shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    ndim = max(map(len, shapes), default=0)
    out = [1] * ndim
    owner = [0] * ndim
    for i, shape in enumerate(shapes):
        for d, size in enumerate(shape, start=ndim - len(shape)):
            if out[d] == 1:
                out[d], owner[d] = size, i
            elif size not in (1, out[d]):
                first, second = _label(names, owner[d]), _label(names, i)
                raise Refused(
                    f"shapes don't broadcast: dimension {d - ndim} is {out[d]} in {first} "
                    f"but {size} in {second}"
                )
    return tuple(out)


def _label(names: tuple[str, ...], i: int) -> str:
    return names[i] if i < len(names) else f"{names[-1]}[{i}]" if names else f"input {i}"


def normal_dim(dim: int, ndim: int) -> int:
    """Return `dim` counted from the front; 0-d tensors take dimensions 0 and -1, as in PyTorch."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise RefusedIndex(
            f"dim {dim} is out of range: the tensor has {ndim} dimensions, so {-n} to {n - 1}"
        )
    return dim % n


# --- kinds ---------------------------------------------------------------------------------------


class Elementwise(Op):
    """Each output element depends on the elements at the same place; inputs broadcast."""

    broadcasts: ClassVar[bool] = True
    promote: ClassVar[str] = "common"
    out: ClassVar[DType | None] = None  # the output's dtype, where it isn't that of the inputs
    domain: ClassVar[tuple[float, float]] = (-2.0, 2.0)  # where samples are drawn

    def infer(self, *specs: Any, **_: Any) -> Spec:  # Any: an op may name its inputs
        shape = broadcast_shapes(self.params, [s.shape for s in specs])
        return Spec(shape, self.out or specs[self.promote_from].dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        low, high = cls.domain
        n = len(cls.params)
        shapes: list[list[tuple[int, ...]]] = [[()] * n, [(3,)] * n, [(2, 0)] * n, [(2, 3, 4)] * n]
        if n > 1:
            shapes += [[(2, 3), *[(3,)] * (n - 1)], [(1, 3), *[(2, 1)] * (n - 1)]]
        for group in shapes:
            yield Case(cls(), tuple(rng.uniform(low, high, s) for s in group))


class Native(Elementwise):
    """… as a function that the compiler's builder has: `function`, or else the op's own name."""

    function: ClassVar[str] = ""

    def lower(self, b: Any, *args: Any) -> Any:
        return getattr(b, self.function or self.name)(*args)


class Reduction(Op):
    """Combines the elements along some dimensions: `dim` are those, `keepdim` keeps them as 1."""

    dim: tuple[int, ...]
    keepdim: bool
    out: ClassVar[DType | None] = None
    needs_elements: ClassVar[bool] = False  # refuses an empty reduction: it has no identity

    def infer(self, x: Spec) -> Spec:
        dims = {normal_dim(d, x.ndim) for d in self.dim}
        if self.needs_elements and any(x.shape[d] == 0 for d in dims if x.ndim):
            raise Refused("there are no elements along the dimensions to reduce")
        return Spec(reduced_shape(x.shape, dims, self.keepdim), self.out or x.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, dim in [((), ()), ((5,), (0,)), ((2, 3, 4), (1,)), ((2, 3, 4), (0, 2))]:
            for keepdim in (False, True):
                yield Case(cls(dim, keepdim), (rng.uniform(-2, 2, shape),))


def reduced_shape(shape: tuple[int, ...], dims: set[int], keepdim: bool) -> tuple[int, ...]:
    """Return the shape after a reduction over `dims`."""
    if keepdim:
        return tuple(1 if d in dims else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in dims)


class View(Op):
    """The same memory seen with another shape or other strides; no number is computed."""

    is_view: ClassVar[bool] = True

    def infer(self, x: Spec) -> Spec:
        return Spec(self.forward(np, repeated_zero(x)).shape, x.dtype)


class Contraction(Op):
    """Sums of products: matrix products and convolutions."""

    promote: ClassVar[str] = "common"


class Indexing(Op):
    """Reads or writes at places that other inputs name."""


class Random(Op):
    """Draws numbers; its only input is a key (seed, counter), so that no draw is ever frozen."""


class Composite(Op):
    """Is defined by `decompose`, in Tensors; a faster `forward` and `backward` are allowed."""

    decompose: ClassVar[Callable[..., Any]]


def example(*shape: int, dtype: DType | str = "float64", seed: int = 0) -> Array:
    """Return reproducible numbers of a shape: for `samples` and `bad`."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 3, shape).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) > 0.5
    return rng.uniform(-2, 2, shape).astype(dtype)
