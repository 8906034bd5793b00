"""Lanczos, quadrature and trace on matrices whose spectrum is known by `eigh`."""

import pytest
import torch
from torch import Tensor

from kdprobe.probes.lanczos import Ritz, lanczos, orthogonal
from kdprobe.probes.quadrature import averaged, gauss
from kdprobe.probes.traces import Draw, Goal, draw, known_part, residual, signs, trace


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def symmetric(values: Tensor, seed: int = 0) -> Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    square = torch.randn(len(values), len(values), generator=chance(seed), dtype=values.dtype)
    q, _ = torch.linalg.qr(square)
    return (q * values) @ q.T


def spectrum(size: int = 60, dtype: torch.dtype = torch.float64) -> Tensor:
    """A few large eigenvalues, some below 0, and many near 0: as a Hessian's."""
    values = 0.3 * torch.randn(size, generator=chance(9), dtype=torch.float64)
    values[:4] = torch.tensor([40.0, 17.0, 16.0, -6.0])
    return values.to(dtype)


def start(size: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=chance(seed), dtype=torch.float64).to(dtype)


def test_all_steps_give_all_eigenvalues():
    values = spectrum(20)
    h = symmetric(values)
    found = lanczos(lambda v: h @ v, start(20), 99)
    assert len(found.basis) == 20
    torch.testing.assert_close(found.ritz().values, values.sort().values)
    torch.testing.assert_close(found.basis @ found.basis.T, torch.eye(20).double())
    torch.testing.assert_close(found.basis @ h @ found.basis.T, found.matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eigenvalue_lies_within_every_bound(dtype):
    values = spectrum(60, dtype)
    h = symmetric(values.double()).to(dtype)
    exact = torch.linalg.eigvalsh(h.double())
    for steps in (1, 2, 5, 12, 30):
        krylov = lanczos(lambda v: h @ v, start(60, dtype=dtype), steps)
        ritz = krylov.ritz()
        vectors = krylov.vectors(ritz.vectors).double()
        true = (vectors @ h.double() - ritz.values[:, None] * vectors).norm(dim=1)
        nearest = (ritz.values[:, None] - exact).abs().amin(1)
        assert (true <= ritz.bounds).all()
        assert (nearest <= ritz.bounds).all()
        torch.testing.assert_close(
            ritz.bounds, true, rtol=0.02, atol=2e-3 * float(dtype.itemsize < 8) + 1e-10
        )


def test_it_stops_when_told_that_it_is_enough():
    values = spectrum(60)
    h = symmetric(values)

    def enough(ritz: Ritz) -> bool:
        return bool(ritz.bounds[-1] < 1e-3 * ritz.values[-1])

    found = lanczos(lambda v: h @ v, start(60), 50, enough)
    ritz = found.ritz()
    assert len(found.basis) < 30
    assert enough(ritz)
    assert float(ritz.values[-1]) == pytest.approx(40, rel=1e-6)


def test_an_invariant_space_ends_it_with_bounds_of_rounding_alone():
    h = torch.diag(torch.tensor([3.0, 3, 3, 1, 1, 0]).double())
    found = lanczos(lambda v: h @ v, start(6), 6)
    assert len(found.basis) == 3
    ritz = found.ritz()
    torch.testing.assert_close(ritz.values, torch.tensor([0.0, 1, 3]).double())
    assert ritz.bounds.max() < 1e-12
    assert found.rest.eq(0).all()


def test_no_curvature_has_eigenvalue_zero():
    ritz = lanczos(torch.zeros_like, start(5), 5).ritz()
    assert ritz.values.tolist() == [0.0]
    assert ritz.bounds.tolist() == [0.0]


def test_locked_vectors_are_left_out():
    values = spectrum(30)
    h = symmetric(values)
    exact, vectors = torch.linalg.eigh(h)
    locked = vectors[:, -3:].T
    found = lanczos(lambda v: h @ v, start(30), 99, locked=locked)
    assert (found.basis @ locked.T).abs().max() < 1e-10
    torch.testing.assert_close(found.ritz().values, exact[:-3])


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("kept", [0, 3])
def test_the_first_product_is_told_again(steps, kept):
    h = symmetric(spectrum(30))
    locked = torch.linalg.eigh(h)[1][:, -kept:].T if kept else None
    found = lanczos(lambda v: h @ v, start(30), steps, locked=locked)
    torch.testing.assert_close(found.first_answer, h @ found.basis[0])


def test_a_rule_of_j_nodes_knows_the_moments_up_to_2j_minus_1():
    values = spectrum(40)
    h = symmetric(values)
    v = start(40)
    found = lanczos(lambda x: h @ x, v, 6)
    unit = v / v.norm()
    for nodes, weights in (
        gauss(found.diagonal, found.beside),
        averaged(found.diagonal, found.beside),
    ):
        image = unit
        for power in range(12):
            exact = float(unit @ image)
            assert float((weights * nodes**power).sum()) == pytest.approx(exact, rel=1e-9)
            image = h @ image


def test_the_averaged_rule_errs_less_about_a_kink():
    values = spectrum(300)
    h = symmetric(values)
    exact_values, vectors = torch.linalg.eigh(h)
    off, plain = [], []
    for seed in range(12):
        v = start(300, seed)
        exact = float((vectors.T @ (v / v.norm())).square() @ exact_values.abs())
        found = lanczos(lambda x: h @ x, v, 11)
        for rule, errors in ((averaged, off), (gauss, plain)):
            nodes, weights = rule(found.diagonal, found.beside)
            errors.append(float((weights * nodes.abs()).sum()) - exact)
    assert torch.tensor(off).square().mean() < 0.25 * torch.tensor(plain).square().mean()


def test_a_rule_of_one_step_or_of_all_is_gauss():
    h = symmetric(spectrum(8))
    for steps in (1, 8):
        found = lanczos(lambda x: h @ x, start(8), steps)
        for ours, plain in zip(
            averaged(found.diagonal, found.beside),
            gauss(found.diagonal, found.beside),
            strict=True,
        ):
            assert torch.equal(ours, plain)
    found = lanczos(lambda x: h @ x, start(8), 5)
    shorter = lanczos(lambda x: h @ x, start(8), 4)
    for ours, plain in zip(
        averaged(found.diagonal, found.beside, 1),
        averaged(shorter.diagonal, shorter.beside),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


LAYERS = (slice(0, 7), slice(7, 30), slice(30, 60))


def draws(h: Tensor, steps: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Known (l,) and drawn (s, l) of the trace of `h`."""
    krylov = lanczos(lambda v: h @ v, start(len(h), 1000 + seed, h.dtype), steps)
    goal = Goal(1e-9, count, 0)
    return trace(lambda v: h @ v, krylov, LAYERS, [], goal, chance(seed))


def test_known_and_drawn_are_the_blocks_of_the_projected_matrix():
    h = symmetric(spectrum())
    krylov = lanczos(lambda v: h @ v, start(60), 7)
    inside = krylov.basis.T @ krylov.basis
    beyond = torch.eye(60).double() - inside
    rest = beyond @ h @ beyond
    torch.testing.assert_close(
        known_part(krylov, LAYERS), torch.stack([(h - rest)[s, s].trace() for s in LAYERS])
    )
    g = signs(60, chance(), h)
    exact = torch.stack([(g * (rest @ g))[s].sum() for s in LAYERS])
    apart = krylov.vectors(krylov.ritz().vectors[:, -2:])
    for within in (g, beyond @ g, orthogonal(g, apart)):
        torch.testing.assert_close(residual(krylov, LAYERS, Draw(g, within, h @ within)), exact)


def test_all_of_the_space_leaves_nothing_to_draw():
    h = symmetric(spectrum())
    known, drawn = draws(h, 60, 0, 3)
    torch.testing.assert_close(known.sum(), h.trace())
    assert drawn.abs().max() < 1e-8


def test_the_standard_error_covers_the_trace_at_its_nominal_rate():
    """Of 400 estimates from 12 draws each; 95% by Student's t at 11 degrees of freedom.

    Twelve draws are enough for that once Lanczos has what stands out of the spectrum.
    """
    h = symmetric(spectrum())
    exact = torch.stack([h[s, s].trace() for s in LAYERS] + [h.trace()])
    hits = []
    for seed in range(400):
        known, drawn = draws(h, 10, seed, 12)
        found = known + drawn
        found = torch.cat([found, found.sum(1, keepdim=True)], 1)
        error = found.std(0) / 12**0.5
        hits.append((found.mean(0) - exact).abs() <= 2.201 * error)
    rates = torch.stack(hits).double().mean(0)
    assert (rates > 0.915).all(), rates  # three standard errors of a rate of 95%
    assert (rates < 0.985).all(), rates


def test_what_lanczos_knows_makes_the_error_smaller():
    h = symmetric(spectrum())
    plain, ours = (draws(h, steps, 3, 200)[1].sum(1).std() for steps in (1, 8))
    assert ours < 0.2 * plain


def test_drawing_stops_when_it_is_sure_enough_or_at_the_most():
    h = symmetric(spectrum())
    krylov = lanczos(lambda v: h @ v, start(60), 6)
    for tolerance, most in ((1e9, 40), (0.01, 400), (1e-9, 20), (1e9, 5)):
        goal = Goal(tolerance, most, 0)
        known, drawn = trace(lambda v: h @ v, krylov, LAYERS, [], goal, chance())
        whole = known.sum() + drawn.sum(1)
        error = whole.std() / len(whole) ** 0.5
        assert len(whole) == min(8, most) if tolerance == 1e9 else 8 < len(whole) <= most
        assert len(whole) == most or error <= tolerance * whole.mean().abs()


def test_where_many_draws_are_needed_lanczos_goes_on_first():
    h = symmetric(spectrum(300))
    products = []

    def product(v: Tensor) -> Tensor:
        products.append(1)
        return h @ v

    krylov = lanczos(lambda v: h @ v, start(300), 4)
    first = [draw(lambda v: h @ v, krylov, chance(7))]
    layers = (slice(0, 100), slice(100, 300))
    spent = {}
    for steps in (4, 300):
        products.clear()
        known, drawn = trace(product, krylov, layers, first, Goal(0.02, 5000, steps), chance())
        spent[steps] = len(products)
        whole = (known + drawn).sum(1)
        error = whole.std() / len(whole) ** 0.5
        assert error <= 0.02 * whole.mean()
        assert (whole.mean() - h.trace()).abs() <= 3.5 * error
    assert spent[300] < 0.7 * spent[4]


def test_a_trace_of_nothing_needs_no_draws():
    krylov = lanczos(torch.zeros_like, start(60), 6)
    goal = Goal(0.05, 50, 6)
    known, drawn = trace(torch.zeros_like, krylov, LAYERS, [], goal, chance())
    assert len(drawn) == 8
    assert known.abs().max() == drawn.abs().max() == 0


def test_lanczos_goes_on_from_where_it_stopped():
    h = symmetric(spectrum(30))
    whole = lanczos(lambda v: h @ v, start(30), 12)
    part = lanczos(lambda v: h @ v, start(30), 5)
    found = lanczos(lambda v: h @ v, start(30), 12, begun=part)
    torch.testing.assert_close(found.basis, whole.basis)
    torch.testing.assert_close(found.matrix, whole.matrix)
    torch.testing.assert_close(found.rest, whole.rest)
    none = lanczos(lambda v: h @ v, start(30), 3, begun=part)
    assert torch.equal(none.basis, part.basis)
    assert torch.equal(none.rest, part.rest)


def test_signs_are_signs():
    drawn = signs(10_000, chance(), torch.zeros(1))
    assert drawn.abs().eq(1).all()
    assert drawn.mean().abs() < 0.03
