"""What do the largest eigenvalue and the trace cost, to an error that is stated?  Prints ratios.

Against PyHessian's power iteration and Hutchinson on the same images, run until their errors are
no larger: its own tolerance is of the change from step to step and bounds no error. ARPACK in
float64 says what is true.
"""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from bench_tools import timed
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdprobe.batches import budget
from kdprobe.datasets.contract import DATASETS, Images
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.hessian import Aim
from kdprobe.probes.lanczos import Krylov, lanczos
from kdprobe.probes.products import ROWS, Hessian, lean
from kdprobe.probes.traces import Goal, trace

IMAGES, ROUNDS = 128, 3
MOST, DRAWS = 200, 30  # of PyHessian: power iterations, draws to see its spread by
STEPS, RATE = 300, 0.2  # of the training before
EXACT = 1e-3  # of the eigenvalue
SURE = 0.02  # of the trace, its standard error


@pytest.fixture(scope="module")
def images() -> Images:
    return DATASETS["photodigits"].make("test").sample(IMAGES, seed=0)


@pytest.fixture(scope="module")
def net() -> Network:
    """A ResNet-20 after a short training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        data = DATASETS["photodigits"].make("train")
        net = Network(make_body("resnet20", num_classes=10), (0.5,) * 3, (0.25,) * 3).train()
        descent = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, nesterov=True)
        rate = torch.optim.lr_scheduler.OneCycleLR(descent, RATE, total_steps=STEPS)
        for _ in range(STEPS):
            some = torch.randint(len(data), (64,))
            descent.zero_grad()
            cross_entropy(net(data.pixels[some]), data.labels[some]).backward()
            descent.step()
            rate.step()
    return net.eval().requires_grad_(True)


def bent(net: Network, images: Images) -> Hessian:
    return Hessian(
        net, list(net.parameters()), images.pixels, images.labels, ROWS, budget(torch.device("cpu"))
    )


@pytest.mark.bench
def test_a_product_against_a_gradient(
    net: Network, images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    with lean(net, images.pixels[:8]):
        fast = bent(net, images)
    plain = bent(net, images)
    v = torch.randn(sum(fast.sizes), generator=torch.Generator().manual_seed(0))

    def gradient(rows: int) -> None:
        for some in torch.arange(IMAGES).split(rows):
            loss = cross_entropy(net(images.pixels[some]), images.labels[some])
            torch.autograd.grad(loss, list(net.parameters()))

    works: dict[str, Callable[[], object]] = {
        "gradient, batches of 64": lambda: gradient(64),
        "gradient, one batch of 128": lambda: gradient(128),
        "product": lambda: fast(v),
        "product, BatchNorm apart": lambda: plain(v),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(3 * ROUNDS):
        for name, work in works.items():
            seconds[name].append(timed(work)[1])
    unit = float(np.median(seconds["gradient, batches of 64"]))
    off = float((fast(v) - plain(v)).norm() / plain(v).norm())
    with capsys.disabled():
        print(f"\nResNet-20, {IMAGES} images, {torch.get_num_threads()} threads; in gradients")
        for name, spent in seconds.items():
            print(f"  {name:28}{np.median(spent) / unit:6.2f}   least {min(spent) / unit:.2f}")
        print(f"  difference of the two products {off:.0e}")
    assert len(fast.kept) == IMAGES // ROWS
    assert off < 1e-2


def ours(net: Network, images: Images, seed: int) -> tuple[Krylov, Tensor, Tensor]:
    """Lanczos, and the known and drawn parts of the trace."""
    aim = Aim(1, EXACT, 100, SURE, 1000, 0, 0)
    chance = torch.Generator().manual_seed(seed)
    with lean(net, images.pixels[:8]):
        h = bent(net, images)
    krylov = lanczos(h, torch.randn(sum(h.sizes), generator=chance), aim.steps, aim.reached)
    goal = Goal(SURE, aim.draws, aim.steps)
    return krylov, *trace(h, krylov, [slice(0, sum(h.sizes))], [], goal, chance)


def arpack(net: Network, images: Images) -> float:
    """The largest eigenvalue in float64, by another program and without any folding."""
    net.double()
    try:
        h = bent(net, images)  # the mean of its pixels, in float64, makes them so
        size = sum(h.sizes)
        product = LinearOperator(
            (size, size), matvec=lambda v: h(torch.from_numpy(v).double()).numpy(), dtype=float
        )
        start = np.random.default_rng(0).standard_normal(size)
        return float(eigsh(product, k=1, which="LA", tol=1e-4, v0=start)[0][0])
    finally:
        net.float()


class Near(Exception):
    """Near enough: PyHessian's iteration has no other way to be told."""


def power(peer: ModuleType, net: Network, data: tuple, wanted: float) -> tuple[int, float]:
    """Steps and value of PyHessian's power iteration once it is as near as EXACT."""
    met: list[float] = []
    product = peer.group_product

    def noted(xs: object, ys: object) -> Tensor:
        value = product(xs, ys)
        met.append(float(value))
        if abs(met[-1] - wanted) <= EXACT * wanted:
            raise Near
        return value

    peer.group_product = noted
    try:
        peer.hessian(net, nn.CrossEntropyLoss(), data=data, cuda=False).eigenvalues(MOST, tol=0)
    except Near:
        pass
    finally:
        peer.group_product = product
    return len(met), met[-1]


@pytest.mark.bench
def test_the_largest_eigenvalue_and_the_trace_against_pyhessian(
    net: Network, images: Images, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = pytest.importorskip("pyhessian.hessian")
    data = (images.pixels, images.labels)
    true = arpack(net, images)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(ROUNDS):
        (krylov, known, drawn), spent = timed(lambda seed=seed: ours(net, images, seed))
        seconds["ours"].append(spent)
        ritz = krylov.ritz()
        value, bound = float(ritz.values[-1]), float(ritz.bounds[-1])
        trace = float(known.sum() + drawn.mean())
        error = float(drawn.std() / len(drawn) ** 0.5)
        torch.manual_seed(seed)
        (steps, found), at_top = timed(lambda: power(peer, net, data, true))
        other = peer.hessian(net, nn.CrossEntropyLoss(), data=data, cuda=False)
        draws, at_draws = timed(lambda other=other: other.trace(DRAWS, tol=0))
        needed = (np.std(draws, ddof=1) / error) ** 2
        seconds["theirs"].append(at_top + at_draws / len(draws) * needed)
        assert abs(value - true) <= bound <= EXACT * value
        assert error <= SURE * abs(trace)
        gap = abs(trace - np.mean(draws))
        assert gap <= 4 * np.hypot(error, np.std(draws, ddof=1) / len(draws) ** 0.5)
        with capsys.disabled():
            print(f"\nResNet-20, {IMAGES} images, float64 by ARPACK {true:.2f}; seed {seed}")
            print(f"  ours      {value:.2f} ± {bound:.2g} in {len(krylov.basis)} steps,", end="")
            print(f" trace {trace:.0f} ± {error:.0f} in {len(drawn)} draws; {spent:.1f} s")
            print(f"  PyHessian {found:.2f} in {steps} steps, {at_top:.1f} s; trace", end="")
            print(f" {np.mean(draws):.0f}, ± {error:.0f} would take {needed:.0f} draws", end="")
            print(f" of {at_draws / len(draws):.2f} s")
    ratio = np.median(seconds["ours"]) / np.median(seconds["theirs"])
    with capsys.disabled():
        print(f"  ours ÷ PyHessian, to the same errors: {ratio:.3f}")
