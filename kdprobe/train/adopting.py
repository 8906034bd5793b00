"""A teacher that is there already: its checkpoints are taken over from another study.

They are copied, so that the new study is whole by itself. Nothing of the teacher is trained, and
its network, with the normalisation that it was trained with, is the one that its study names.
"""

from kdprobe.errors import InputError
from kdprobe.formats.contract import read_weights
from kdprobe.loading import load_network
from kdprobe.manifest import RunEntry
from kdprobe.study import Run, load_study
from kdprobe.train.place import Place
from kdprobe.train.records import mark_finished, write_run
from kdprobe.train.saving import checkpoint_file
from kdprobe.train.settings import Teacher
from kdprobe.train.writing import write_tensors


def adopt(place: Place) -> None:
    """Copy the checkpoints of the recipe's teacher into the study, unless they are there.

    Raises:
        InputError: there is no such study or run, its network is of the user's own code or has
            other classes than the data, or a checkpoint is broken.
        OutputError: a file cannot be written.
    """
    plan, home = place.recipe.teacher, place.folder / "teacher"
    if plan is None or not plan.study or (home / "run.json").is_file():
        return
    run = taken_run(plan)
    _must_fit(place, run)
    load_network(run.last)  # broken weights are told of here, not after hours
    for checkpoint in run.checkpoints:
        weights = read_weights(checkpoint.path)
        told = {**weights.metadata, "taken_from": str(checkpoint.path)}
        write_tensors(home / checkpoint_file(checkpoint.epoch), weights.tensors, told)
    entry = RunEntry(
        id="teacher",
        role="teacher",
        arm="teacher",
        seed=run.seed,
        network=run.entry.network,
        schedule=run.entry.schedule,
        status="running",
    )
    taken = {"study": plan.study, "run": run.id, "file_sha256": run.last.sealed().digest}
    record = {"schema_version": 1, "run": entry.model_dump(mode="json"), "taken_from": taken}
    write_run(home, record, resumed=None)
    mark_finished(home, {})


def taken_run(plan: Teacher) -> Run:
    """The run of another study that a recipe names. Raises InputError where there is none."""
    study = load_study(plan.study)
    known = {run.id: run for run in study.runs}
    found = known.get(plan.run) if plan.run else study.teacher
    if found is None:
        wanted = f"run {plan.run!r}" if plan.run else "a teacher"
        raise InputError(
            f"found no {wanted} in {plan.study}; wanted one of {', '.join(known)}: name it in "
            "teacher.run"
        )
    return found


def _must_fit(place: Place, run: Run) -> None:
    network = run.entry.network
    if network.factory:
        raise InputError(
            f"teacher {run.id!r} is made by code of your own ({network.factory}), which "
            "'kdprobe train' does not run; wanted a bundled network: see 'kdprobe list models'"
        )
    if network.num_classes != place.classes:
        raise InputError(
            f"teacher {run.id!r} has {network.num_classes} classes and the data "
            f"{place.classes}; wanted as many: train on the teacher's data set, or take another "
            "teacher"
        )
    if network.classes and network.classes != place.names:
        raise InputError(
            f"teacher {run.id!r} answers for {', '.join(network.classes[:3])}, ... and the data "
            f"has {', '.join(place.names[:3])}, ...; wanted the same classes in the same order"
        )
