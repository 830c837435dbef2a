"""Linear algebra: identities that must hold, derivatives of what the generated tests exempt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.errors import GradError, OpError
from toumei.testing import check_grads

RNG = np.random.default_rng(0)


def matrix(*shape: int) -> Any:
    return tm.tensor(RNG.normal(size=shape))


def close(a: Any, b: Any, tolerance: float = 1e-10) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance))


def symmetric(x: Any) -> Any:
    return x + x.mT


def definite(x: Any) -> Any:
    return x @ x.mT + tm.tensor(np.eye(x.shape[-1]))


EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,jk": ((2, 3), (3, 4)),
    "ii": ((3, 3),),
    "ii->i": ((3, 3),),
    "iij->ji": ((3, 3, 2),),
    "ba": ((2, 3),),
    "...ij,...jk->...ik": ((5, 2, 3), (3, 4)),
    "i...,i...->...": ((3, 2), (3, 1)),
    "ij,kl,jk->il": ((2, 3), (4, 5), (3, 4)),
    "bhqd,bhkd->bhqk": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "i,j->": ((3,), (4,)),
    ",ij->ij": ((), (2, 3)),
    "ij,ij,ij->j": ((2, 3), (2, 3), (2, 3)),
    "aij,bjk,ak->bi": ((2, 3, 4), (5, 4, 6), (2, 6)),
    "i,->i": ((0,), ()),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_as_numpy(equation: str) -> None:
    arrays = [RNG.normal(size=s) for s in EQUATIONS[equation]]
    assert close(tm.einsum(equation, *map(tm.tensor, arrays)), np.einsum(equation, *arrays))


@pytest.mark.parametrize("equation", ["iij->ji", "ij,kl,jk->il", "...ij,...jk->...ik"])
def test_einsum_derivatives(equation: str) -> None:
    inputs = [matrix(*s).requires_grad_() for s in EQUATIONS[equation]]
    check_grads(lambda *t: [tm.einsum(equation, *t)], inputs, 2)


def test_einsum_with_lists_and_spaces() -> None:
    a, b = matrix(2, 3), matrix(3, 4)
    assert close(tm.einsum(a, [0, 1], b, [1, 2], [2, 0]), (a @ b).T)
    assert close(tm.einsum(" i j , j k -> i k ", [a, b]), a @ b)


@pytest.mark.parametrize(
    ("equation", "words"),
    [
        ("ij,jk->ik", "'j' is 3, but 2 in operand 1"),
        ("ij,jk,kl", "3 operands named, 2 given"),
        ("ijk,jk", "operand 0 is float64[2, 3], but 'ijk' names 3 dimensions"),
        ("ij,kl->im", "the output must name letters of the operands"),
        ("i1,kl", "they must be letters"),
    ],
)
def test_einsum_refuses(equation: str, words: str) -> None:
    with pytest.raises(OpError) as caught:
        tm.einsum(equation, matrix(2, 3), matrix(2, 4))
    assert words in str(caught.value)


def test_cholesky_and_eigh_for_symmetric_changes() -> None:
    x = matrix(2, 3, 3).requires_grad_()
    check_grads(lambda t: [tm.linalg.cholesky(definite(t))], [x], 2)
    check_grads(lambda t: [tm.linalg.eigvalsh(symmetric(t))], [x], 2)
    check_grads(lambda t: [tm.linalg.eigh(symmetric(t)).eigenvectors], [x], 2)
    lower = tm.linalg.cholesky(definite(x.detach())).requires_grad_()
    b = matrix(2, 3, 1).requires_grad_()
    check_grads(lambda b, t: [tm.cholesky_solve(b, tm.tril(t))], [b, lower], 2)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3), (0, 3)])
def test_decompositions_multiply_back(shape: tuple[int, ...]) -> None:
    a = matrix(*shape)
    p, lower, upper = tm.linalg.lu(a)
    assert close(p @ lower @ upper, a)
    q, r = tm.linalg.qr(a)
    assert close(q @ r, a)
    u, s, vh = tm.linalg.svd(a, full_matrices=False)
    assert close((u * s.unsqueeze(-2)) @ vh, a)
    assert close(a @ tm.linalg.pinv(a) @ a, a)


def test_a_large_triangular_system_is_solved_in_blocks() -> None:
    a = np.tril(RNG.normal(size=(100, 100))) / 10 + np.eye(100) * 3
    b = RNG.normal(size=(100, 2))
    x = tm.linalg.solve_triangular(tm.tensor(a), tm.tensor(b), upper=False)
    assert close(a @ x.numpy(), b)
    x = tm.linalg.solve_triangular(tm.tensor(a.T.copy()), tm.tensor(b), upper=True)
    assert close(a.T @ x.numpy(), b)


def test_solving_with_factors() -> None:
    a, b = matrix(2, 4, 4), matrix(2, 4, 3)
    packed, pivots = tm.linalg.lu_factor(a)
    assert close(a @ tm.linalg.lu_solve(packed, pivots, b), b)
    assert close(a.mT @ tm.linalg.lu_solve(packed, pivots, b, adjoint=True), b)
    assert close(tm.linalg.lu_solve(packed, pivots, b.mT, left=False) @ a, b.mT)
    assert close(tm.linalg.solve(a, b.mT, left=False) @ a, b.mT)
    packed, pivots = tm.linalg.ldl_factor(symmetric(a))
    assert close(symmetric(a) @ tm.linalg.ldl_solve(packed, pivots, b), b)


def test_ldl_of_matrices_that_need_blocks_of_two() -> None:
    for n in range(2, 9):
        a = RNG.normal(size=(n, n))
        a = a + a.T - np.diag(np.diag(a)) * 1.99
        packed, pivots = tm.linalg.ldl_factor(tm.tensor(a))
        assert (pivots.numpy() < 0).any()
        b = RNG.normal(size=(n, 2))
        assert close(a @ tm.linalg.ldl_solve(packed, pivots, tm.tensor(b)).numpy(), b, 1e-8)


def test_determinant_of_a_singular_matrix_has_a_gradient() -> None:
    """The cofactors of a matrix of rank n − 1 aren't zero: det·inverse would be NaN."""
    a = tm.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=tm.float64, requires_grad=True)
    tm.linalg.det(a).backward()
    assert a.grad is not None and close(a.grad, [[4, -2], [-2, 1]])


@pytest.mark.parametrize("call", ["inv", "lu_factor", "ldl_factor"])
def test_singular_matrices_are_named(call: str) -> None:
    a = tm.tensor(np.stack([np.eye(2), np.zeros((2, 2))]))
    with pytest.raises(OpError) as caught:
        getattr(tm.linalg, call)(a)
    assert "matrix (1,) of the batch is singular" in str(caught.value)


def test_singular_systems_and_indefinite_matrices_are_named() -> None:
    with pytest.raises(OpError, match="is singular: pivot 2 of its LU"):
        tm.linalg.solve(tm.tensor([[1.0, 2.0], [2.0, 4.0]]), tm.ones(2))
    with pytest.raises(OpError, match="leading minor of order 2 isn't"):
        tm.linalg.cholesky(tm.tensor([[1.0, 2.0], [2.0, 1.0]]))


def test_ex_variants_report_instead() -> None:
    singular = tm.tensor([[1.0, 2.0], [2.0, 4.0]])
    assert tm.linalg.inv_ex(singular).info.item() == 2
    assert tm.linalg.solve_ex(singular, tm.ones(2, 1)).info.item() == 2
    assert tm.linalg.lu_factor_ex(singular).info.item() == 2
    assert tm.linalg.cholesky_ex(tm.tensor([[1.0, 2.0], [2.0, 1.0]])).info.item() == 2
    assert tm.linalg.inv_ex(tm.tensor([[2.0]])).info.item() == 0


def test_refusals() -> None:
    with pytest.raises(OpError, match="no complex dtype"):
        tm.linalg.eig(tm.ones(2, 2))
    with pytest.raises(OpError, match="must hold floats, not int64"):
        tm.linalg.inv(tm.eye(2, dtype=tm.int64))
    with pytest.raises(OpError, match="it takes tensors of 2 and 2 dimensions, not 3 and 2"):
        tm.mm(tm.ones(1, 2, 2), tm.ones(2, 2))
    q, _ = tm.linalg.qr(matrix(3, 2).requires_grad_(), mode="complete")
    with pytest.raises(GradError, match="complete Q of a 3 x 2 matrix has no derivative"):
        q.sum().backward()


def test_matrix_exp_against_eigenvalues() -> None:
    a = symmetric(matrix(3, 4, 4)) * tm.tensor([0.01, 1.0, 10.0]).reshape(3, 1, 1)
    values, vectors = tm.linalg.eigh(a)
    expected = (vectors * values.exp().unsqueeze(-2)) @ vectors.mT
    y = tm.linalg.matrix_exp(a).numpy()
    assert np.abs(y / expected.numpy() - 1).max() < 1e-9


def test_multi_dot_chooses_the_cheap_order() -> None:
    from toumei.ops.linalg import chain_order

    assert chain_order([10, 100, 5, 50])[0, 2] == 1  # (AB)C: 7,500 multiplications, A(BC): 75,000
    assert chain_order([2, 100, 3, 4])[0, 2] == 1
    assert chain_order([50, 5, 100, 10])[0, 2] == 0


def test_distances_have_a_gradient_where_points_coincide() -> None:
    x = tm.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]], dtype=tm.float64, requires_grad=True)
    y = tm.cdist(x, x)
    assert close(y.detach(), [[0, 0, 5], [0, 0, 5], [5, 5, 0]])
    y.sum().backward()
    assert x.grad is not None and close(x.grad, [[-1.2, -1.6], [-1.2, -1.6], [2.4, 3.2]])


def test_gradients_of_a_shared_matrix_sum_over_the_batch() -> None:
    for a, b in (((2, 3), (4, 3, 2)), ((4, 2, 3), (3, 2)), ((2, 1, 2, 3), (4, 3, 1))):
        inputs = [matrix(*a).requires_grad_(), matrix(*b).requires_grad_()]
        check_grads(lambda x, y: [x @ y], inputs, 2)


def test_norms_of_a_zero_vector_have_gradient_zero() -> None:
    for p in (1.5, 2, 3):
        x = tm.zeros(3, requires_grad=True)
        tm.linalg.vector_norm(x, p).backward()
        assert x.grad is not None and x.grad.tolist() == [0, 0, 0]
