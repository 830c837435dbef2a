"""Every op of the registry, traced and run by the reference executor, computes what eager does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from tests.compiler.eager import exact, passed
from toumei.op import REGISTRY, Case, Op, Random
from toumei.tape import apply, wrap

NAMES = [
    name for name, kind in REGISTRY.items() if kind.samples.__func__ is not Op.samples.__func__
]


def cases(name: str) -> list[Case]:
    return list(REGISTRY[name].samples(np.random.default_rng(0)))


def results(found: Any) -> list[Any]:
    return [t.detach().numpy() for t in (found if isinstance(found, tuple) else (found,))]


#: No derivative with respect to the first input.
ONLY_LATER = {"Zeta", "Igamma", "Igammac"}


def tensors(case: Case) -> list[Any]:
    given = [wrap(np.array(a)) for a in case.inputs]
    for t in given[type(case.op).__name__ in ONLY_LATER :]:
        if t.is_floating_point() and case.op.gradients:
            t.requires_grad_()
    return given


def step(op: Op) -> Any:
    """Return a function that computes an op and its gradients, with weights for the results."""

    def run(*given: Any) -> Any:
        found = apply(op, *given)
        outs = [t for t in (found if isinstance(found, tuple) else (found,)) if t.requires_grad]
        wanted = [t for t in given if t.requires_grad]
        if not outs or not wanted:
            return found, ()
        total = sum((t * (t.detach() + 1)).sum() for t in outs)
        return found, tm.autograd.grad(total, wanted, allow_unused=True)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_traced_is_eager(name: str) -> None:
    for case in cases(name)[:6]:
        function = step(case.op)
        expected, gradients = function(*tensors(case))
        for compile in (exact, passed):
            found, others = compile(function)(*tensors(case))
            for a, b in zip(results(expected), results(found), strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                if compile is exact:
                    np.testing.assert_array_equal(a, b)
                else:
                    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
            assert [g is None for g in gradients] == [g is None for g in others]
            for a, b in zip(gradients, others, strict=True):
                if a is not None:
                    np.testing.assert_allclose(
                        a.detach().numpy(), b.detach().numpy(), rtol=1e-7, atol=1e-8
                    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_refused_in_the_same_words(name: str) -> None:
    for case, words in REGISTRY[name].bad():
        errors = []
        for compile in (lambda f: f, exact, passed):
            function = compile(lambda *given: apply(case.op, *given))  # noqa: B023
            with pytest.raises(tm.errors.ToumeiError) as caught:
                function(*[wrap(np.array(a)) for a in case.inputs])
            errors.append(caught.value)
        assert words in str(errors[0])
        for error in errors[1:]:
            assert words in str(error), f"{error} instead of {errors[0]}"


def test_there_are_random_ops_among_them() -> None:
    assert any(issubclass(REGISTRY[name], Random) for name in NAMES) and len(NAMES) > 200
