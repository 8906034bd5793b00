"""What does a loss really ask for?  Its push on the logits as c [(1 - w) CE + w H(u, p)].

The push, n times the gradient of the mean over n images, is laid beside three forms, each fitted by
least squares (`kdprobe.train.decomposition`):

    label smoothing              u = 1/K, temperature 1: w is its eps
    smoothing at a temperature   u = 1/K, T^2 KL(1/K || p^T)
    distillation                 u = the teacher's answer, T^2 KL(p_t^T || p^T)

Every number is a mean over draws of logits, with its standard error. What a form explains is a
share of the squared length of the push. Only what goes through the logits is seen.

Source: Yuan et al. 2020, arXiv:1909.11723, equations 1-9 (distillation beside label smoothing).

Axes: n images, c classes, r draws.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdprobe.batches import in_batches
from kdprobe.device import choose_device, repeatable
from kdprobe.errors import InputError, UsageError
from kdprobe.probes.lens import Lens
from kdprobe.study import Run, Study, load_study
from kdprobe.taps import find_taps
from kdprobe.train.asked import Audit, Fit, Form
from kdprobe.train.crowd import look
from kdprobe.train.decomposition import Blend, blended
from kdprobe.train.losses.contract import Outputs
from kdprobe.train.pushing import Draw, expressed, layers_of, push

SPREAD, MARGIN = 2.0, 4.0  # of made-up logits; how far a made-up teacher lifts the label


def audit(
    loss: str | nn.Module,
    *,
    classes: int = 100,
    batch: int = 64,
    draws: int = 8,
    seed: int = 0,
    temperature: float | None = None,
    study: str | Path | Study | None = None,
    run: str = "",
    device: str = "auto",
    allow_code: Sequence[str] = (),
) -> Audit:
    """Say what `loss` asks of the logits: cross-entropy, smoothing, distillation, and how heavy.

    Args:
        loss: an expression such as ``"0.1*cross_entropy + 0.9*kd(T=4)"``, or a module with
            ``forward(student, teacher, target)`` over `Outputs`.
        classes: of made-up logits: the student's are normal with deviation 2, the teacher's too,
            with 4 more on the label. Not read where a study is given.
        batch, draws: images a draw, and how many draws; of a study, as many as its images allow.
        seed: of the draws.
        temperature: of the soft part, where it is known; else it is searched.
        study: take logits, layers and labels of its networks on its test images instead.
        run: the student of that study; default its first student, or else its first learner.
        device, allow_code: as in `kdprobe.analyze`.

    Raises:
        UsageError: a number, the expression or the run cannot be used.
        InputError: the loss fails, does not look at the logits, or reads layers and no study is
            given.
    """
    _must_be_sizes(classes, batch, draws, temperature)
    made = expressed(loss) if isinstance(loss, str) else loss
    if study is None:
        _must_need_no_layers(made)
        shown, source = _made_up(made, classes, batch, draws, seed), "random logits"
    else:
        loaded = study if isinstance(study, Study) else load_study(study)
        chosen = _student(loaded, run)
        source = f"study {loaded.name}, {chosen.id} at epoch {loaded.final(chosen).epoch}"
        lens = Lens(choose_device(device), loaded.data, batch * draws, seed, frozenset(allow_code))
        with repeatable():
            shown = _seen(loaded, chosen, lens, made, batch)
    count, width = shown[0].student.logits.shape
    return Audit(
        loss=loss if isinstance(loss, str) else type(loss).__name__,
        source=source,
        classes=width,
        batch=count,
        draws=len(shown),
        fits=_fits(made, shown, seed, temperature),
        unseen_layers=layers_of(made),
    )


def _must_be_sizes(classes: int, batch: int, draws: int, temperature: float | None) -> None:
    least = {"classes": (classes, 2), "batch": (batch, 1), "draws": (draws, 1)}
    for name, (found, wanted) in least.items():
        if found < wanted:
            raise UsageError(f"found --{name} {found}; wanted at least {wanted}")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise UsageError(f"found --temperature {temperature}; wanted a number above 0")


def _must_need_no_layers(loss: nn.Module) -> None:
    layers = layers_of(loss)
    if layers:
        raise InputError(
            f"the loss reads {', '.join(map(repr, layers))}; random logits have no layers: give a "
            "study whose networks have them, --study STUDY"
        )


def _made_up(loss: nn.Module, classes: int, batch: int, draws: int, seed: int) -> list[Draw]:
    """Double precision for losses of the catalogue; what users write expects float32."""
    chance = torch.Generator().manual_seed(seed)
    kind = torch.float64 if hasattr(loss, "temperatures") else torch.float32
    found = []
    for _ in range(draws):
        target = torch.randint(classes, (batch,), generator=chance)
        ours, theirs = (
            SPREAD * torch.randn(batch, classes, generator=chance, dtype=torch.float64)
            for _ in range(2)
        )
        theirs[torch.arange(batch), target] += MARGIN
        found.append(Draw(Outputs(ours.to(kind)), Outputs(theirs.to(kind)), target))
    return found


def _student(study: Study, name: str) -> Run:
    known = {run.id: run for run in study.learners}
    if name and name not in known:
        raise UsageError(f"found no student {name!r}; wanted {', '.join(known) or 'none'}")
    chosen = known.get(name) or next(iter(study.students or study.learners), None)
    if chosen is None:
        raise InputError(f"study {study.name!r} has only a teacher; wanted a student beside it")
    return chosen


def _seen(study: Study, run: Run, lens: Lens, loss: nn.Module, batch: int) -> list[Draw]:
    """Batches of the sample as the student and the teacher answer them."""
    images = lens.images
    teacher = study.teacher
    if teacher is None and getattr(loss, "needs_teacher", True):
        raise InputError(f"the loss needs a teacher; study {study.name!r} has none: give another")
    ours = _answers(study, run, lens, layers_of(loss))
    watched = layers_of(loss, "teacher_layers")
    theirs = ours if teacher is None else _answers(study, teacher, lens, watched)
    if ours.logits.shape != theirs.logits.shape:
        raise InputError(
            f"student {run.id!r} has {ours.logits.shape[1]} classes and its teacher "
            f"{theirs.logits.shape[1]}; wanted as many"
        )
    whole = len(images) - len(images) % batch or len(images)
    parts = torch.split(torch.arange(whole), batch)
    return [Draw(_rows(ours, some), _rows(theirs, some), images.labels[some]) for some in parts]


def _answers(study: Study, run: Run, lens: Lens, layers: Sequence[str]) -> Outputs:
    """Logits and `layers` of every image, on the CPU."""
    subject, images = study.final(run), lens.images
    lens.must_have_classes(subject, images)
    network = lens.network(subject)
    taps = find_taps(network.body, layers)

    def part(rows: slice) -> Outputs:
        return look(network, taps, images.pixels[rows].to(lens.device))

    with torch.no_grad():
        parts = in_batches(part, len(images), lens.rows(network, images))
    features = {name: torch.cat([part.features[name] for part in parts]).cpu() for name in taps}
    return Outputs(torch.cat([part.logits for part in parts]).cpu(), features)


def _rows(outputs: Outputs, rows: torch.Tensor) -> Outputs:
    features = {name: layer[rows] for name, layer in outputs.features.items()}
    return Outputs(outputs.logits[rows], features)


def _fits(
    loss: nn.Module, shown: Sequence[Draw], seed: int, temperature: float | None
) -> tuple[Fit, ...]:
    """The three forms, each over all draws."""
    likely = tuple(getattr(loss, "temperatures", ()))
    found: dict[Form, list[Blend]] = {form: [] for form in Form}
    for draw in shown:
        g = push(loss, draw, seed)
        z, u, labels = draw.student.logits, draw.teacher.logits, draw.target
        none = torch.zeros_like(z)
        how: Any = {"temperature": temperature, "likely": likely}
        found[Form.SMOOTHING].append(blended(g, z, none, labels, temperature=1.0))
        found[Form.TEMPERED].append(blended(g, z, none, labels, **how))
        if getattr(loss, "needs_teacher", True):
            found[Form.DISTILLATION].append(blended(g, z, u, labels, **how))
    return tuple(Fit.of(form, blends) for form, blends in found.items() if blends)
