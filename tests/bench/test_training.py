"""What does the training loop cost beside the steps that it contains?  Prints ratios.

bare        forward, backward and SGD's update, written plainly: same network and layout, same
            batches, cut beforehand; with a teacher also one forward pass of it without a graph
loop        all of an epoch: order and views of the images, notes, path length, progress
together    five students of one teacher in one cohort, over the same five one by one
keeping     what an epoch leaves behind: numbers, weights, the state to go on from

A bare step follows each step of the loop, so that both meet the same machine; the two networks end
with the same bits. On a CPU one thread and its own seconds, so that others do not count; on a GPU
the clock.
"""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from kdprobe.train.cohort import first_batch, gathered, learner_of, train_epoch
from kdprobe.train.noting import begin_notes, note_epoch
from kdprobe.train.place import Place, Progress
from kdprobe.train.placing import placed
from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import load_recipe
from kdprobe.train.sources import untrained_view
from kdprobe.train.state import save_state
from kdprobe.train.team import Team
from kdprobe.train.views import batches

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH, EPOCHS, PAIRS, STUDENTS = 128, 8, 3, 5  # the first epoch warms up
SMALL, LARGE = "{name='resnet8', arguments={width=8}}", "{name='resnet8', arguments={width=24}}"
RESNET20, RESNET8 = "{name='resnet20'}", "{name='resnet8'}"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clock() -> float:
    """Seconds: of this process on a CPU, of the wall on a GPU, whose work is waited for."""
    if DEVICE.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def spent(work: Callable[[], object]) -> float:
    start = clock()
    work()
    return clock() - start


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def place_of(folder: Path, steps: int, teacher: str, student: str, *more: str) -> Place:
    """The demo's data and optimiser at a fixed rate, `steps` of 128 images an epoch."""
    settings = (
        "seeds=[0]",
        f"data.arguments={{train = {BATCH * steps}, test = 64}}",
        "data.validation=0",
        f"optimizer.epochs={EPOCHS}",
        "optimizer.schedule=constant",
        "optimizer.lr=0.01",
        f"checkpoints=[0, {EPOCHS}]",
        f"teacher.epochs={EPOCHS}",
        f"teacher.checkpoints=[0, {EPOCHS}]",
        f"teacher.model={teacher}",
        *(f"arms.{arm}.model={student}" for arm in ("baseline", "kd")),
    )
    recipe = load_recipe("demo", [*settings, *more])
    return placed(recipe, folder, DEVICE, lambda event: None)


def team_of(place: Place, arm: str, count: int = 1) -> Team:
    """So many runs of an arm, and an untrained teacher."""
    plan = cohorts(place.recipe)[-1]
    run = next(run for run in plan.runs if run.arm == arm)
    runs = tuple(replace(run, id=f"{arm}{number}") for number in range(count))
    plan, batch = replace(plan, runs=runs), first_batch(place, plan)
    teacher = untrained_view(place, run)
    learners = [learner_of(place, plan, run) for run in runs]
    for learner in learners:
        learner.meet(batch, teacher.look(place, batch) if run.needs_teacher else None)
    return Team(place, plan, learners, {run.teacher: teacher})  # type: ignore[dict-item]  # looks


class Bare:
    """The steps of the first learner of a team, and nothing around them."""

    def __init__(self, team: Team) -> None:
        self.team, learner = team, team.learners[0]
        how = team.place.recipe.optimizer
        self.network = deepcopy(learner.members[0].network).train()
        self.teacher = team.teacher(learner).network if learner.run.needs_teacher else None
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=how.lr,
            momentum=how.momentum,
            weight_decay=learner.run.weight_decay,
            foreach=True,
        )

    def cut(self, epoch: int) -> None:
        """The batches of an epoch as the network takes them best."""
        place, plan = self.team.place, self.team.plan
        self.left = [seen for seen, _ in batches(place.share(plan), place.order(plan), epoch)]

    def step(self) -> None:
        seen = self.left.pop(0)
        if self.teacher is not None:
            with torch.no_grad():
                theirs = self.teacher(seen.pixels)
        self.optimizer.zero_grad(set_to_none=True)
        ours = self.network(seen.pixels)
        loss = F.cross_entropy(ours, seen.target)
        if self.teacher is not None:
            logs = (F.log_softmax(logits / 4, 1) for logits in (ours, theirs))
            kl = F.kl_div(*logs, reduction="batchmean", log_target=True)
            loss = 0.1 * loss + 0.9 * (16 * kl)
        loss.backward()
        self.optimizer.step()


def beside(team: Team) -> tuple[list[float], float]:
    """Loop over bare, an epoch each, and the seconds of a bare step."""
    bare, own = Bare(team), [0.0]

    def between(event: Progress) -> None:
        own[0] += spent(bare.step)

    team.place = replace(team.place, progress=between)
    ratios, steps = [], []
    for epoch in range(1, EPOCHS + 1):
        bare.cut(epoch)
        own[0], count = 0.0, len(bare.left)
        whole = spent(lambda epoch=epoch: train_epoch(team, team.learners, epoch))
        ratios.append(whole / own[0] - 1)
        steps.append(own[0] / count)
    pairs = zip(bare.network.parameters(), team.learners[0].weights, strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs), "the same work"
    return ratios[1:], middle(steps[1:])


@pytest.mark.bench
def test_the_loop_beside_its_bare_steps(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with capsys.disabled():
        print(f"\nan epoch of the loop ÷ its bare steps, batch {BATCH}, {DEVICE}; wanted: 1.05")
        for name, steps, teacher, student in (
            ("resnet8, width 8; teacher of width 24", 8, LARGE, SMALL),
            ("resnet20; teacher resnet20", 4, RESNET20, RESNET20),
        ):
            place = place_of(tmp_path, steps, teacher, student)
            for arm, told in (("baseline", "alone"), ("kd", "with a teacher")):
                ratios, step = beside(team_of(place, arm))
                print(
                    f"  {middle(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})  "
                    f"{1e3 * step:6.1f} ms a bare step  {name}, {told}"
                )


@pytest.mark.bench
def test_five_students_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with capsys.disabled():
        print(f"\nfive students of one teacher together ÷ one by one, {DEVICE}; wanted: 0.8")
        for name, teacher, student in (
            ("resnet8 of width 24 teaches width 8", LARGE, SMALL),
            ("resnet20 teaches resnet8", RESNET20, RESNET8),
            ("resnet20 teaches resnet20", RESNET20, RESNET20),
        ):
            place = place_of(tmp_path, 2, teacher, student)
            five, one = team_of(place, "kd", STUDENTS), team_of(place, "kd")
            alone = team_of(place, "baseline")
            rows = []
            for epoch in range(1, PAIRS + 2):
                together = spent(lambda e=epoch, t=five: train_epoch(t, t.learners, e))
                seconds = [
                    spent(lambda e=epoch, t=team: train_epoch(t, t.learners, e))
                    for team in [one] * STUDENTS + [alone]
                ]
                *apart, untaught = seconds
                looks = sum(apart) / STUDENTS / untaught - 1
                rows.append((together / sum(apart), looks))
            ratio, looks = (middle(list(column)) for column in zip(*rows[1:], strict=True))
            least = (STUDENTS + looks) / (STUDENTS + STUDENTS * looks)
            print(
                f"  {ratio:.3f}  {name}: the teacher's look costs {looks:.2f} of a student's "
                f"step, so that sharing it can give {least:.2f} at best"
            )


@pytest.mark.bench
def test_what_is_kept_beside_the_epoch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    more = (
        "data.arguments={train = 8000, test = 1000}",
        "data.validation=0.1",
        "teacher.epochs=3",
        "teacher.checkpoints=[0, 2, 3]",  # the first epoch is not kept
    )
    state = tmp_path / "state.safetensors"
    with capsys.disabled():
        print(f"\nkeeping ÷ training, an epoch of 7200 images, 800 validate, 1000 test, {DEVICE}")
        for name, model in (("resnet8, width 8", SMALL), ("resnet20", RESNET20)):
            place = place_of(tmp_path / model, 1, model, SMALL, *more)
            team = gathered(place, cohorts(place.recipe)[0])
            begin_notes(team)
            for epoch in (1, 2):
                trained = spent(lambda e=epoch, t=team: train_epoch(t, t.learners, e))
                noted = spent(
                    lambda e=epoch, t=team: note_epoch(t, t.learners, e, time.perf_counter())
                )
                stated = spent(lambda e=epoch, t=team: save_state(state, e, *t.learners))
                told = "validated only" if epoch == 1 else "validated, tested and saved"
                print(
                    f"  {noted / trained:6.2%} noting, {stated / trained:6.2%} state to go on "
                    f"from  {name}, {told}"
                )
