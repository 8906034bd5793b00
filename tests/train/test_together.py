"""Networks that learn together: each is whole, each is saved, and validation names one."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from toystudy import arm, far, lines, network, recipe, record, same, seen, trained, weights

from kdprobe.errors import InputError, RecipeError
from kdprobe.study import load_study
from kdprobe.train import records
from kdprobe.train.choosing import chosen
from kdprobe.train.plan import cohorts
from kdprobe.train.rates import learning_rate

DML = {"one": arm("cross_entropy + dml(T=2)", together=2)}
ONE = {"one": arm("cross_entropy + one(rise=2)", together=3, share="stage2")}
SHARED = {"one": arm("cross_entropy", together=2, share="stage2")}
NAMES = ("one-seed0", "one-seed0.1", "one-seed0.2")
LOWER = ("conv1.", "bn1.", "layer1.", "layer2.")


@pytest.fixture(scope="module")
def mutual(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("mutual"), DML, teacher=None)


@pytest.fixture(scope="module")
def branched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branched")
    return trained(folder, ONE, teacher=None, predictions=True)


def test_both_are_saved_whole_and_differ(mutual):
    first, second = (weights(mutual, run, 2) for run in NAMES[:2])
    assert first.keys() == second.keys()
    assert not any(torch.equal(first[key], second[key]) for key in first if key.endswith("weight"))
    for run in NAMES[:2]:
        assert [line["epoch"] for line in lines(mutual, run)] == [0, 1, 2]
        assert set(lines(mutual, run)[-1]["terms"]) == {"cross_entropy", "dml(T=2)"}
        assert record(mutual, run)["together"] == list(NAMES[:2])
        assert record(mutual, run)["run"]["status"] == "finished"


def test_the_first_begins_as_a_network_alone_and_the_second_elsewhere(mutual, tmp_path):
    alone = trained(tmp_path, {"two": arm("cross_entropy")}, teacher=None)
    assert record(alone, "two-seed0")["together"] is None
    assert same(weights(mutual, "one-seed0", 0), weights(alone, "two-seed0", 0))
    assert not same(weights(mutual, "one-seed0.1", 0), weights(alone, "two-seed0", 0))


@pytest.mark.parametrize("seed", range(3))
def test_the_index_names_the_one_that_validation_chose(tmp_path, seed):
    loud = ["optimizer.lr=0.2", "data.validation=0.4", f"seeds=[{seed}]"]
    folder = trained(tmp_path, DML, *loud, teacher=None)
    names = [f"one-seed{seed}", f"one-seed{seed}.1"]
    best = names[chosen([lines(folder, name) for name in names])]
    assert json.loads((folder / "study.json").read_text())["runs"] == [best]
    assert [run.id for run in load_study(folder).runs] == [best]
    assert [name for name in names if record(folder, name)["chosen"]] == [best]


def test_killed_before_the_choice_is_in_the_index_it_is_there_in_the_end(tmp_path, monkeypatch):
    loud = ["optimizer.lr=0.2", "data.validation=0.4"]  # the second one is chosen

    class Killed(BaseException):
        pass

    def die(folder, recipe):
        if record(folder)["run"]["status"] == "finished":
            raise Killed
        write_index(folder, recipe)

    write_index = records.write_index
    with monkeypatch.context() as patch:
        patch.setattr(records, "write_index", die)
        with pytest.raises(Killed):
            trained(tmp_path, DML, *loud, teacher=None)
    assert [run.id for run in load_study(tmp_path).runs] == ["one-seed0"]
    trained(tmp_path, DML, *loud, teacher=None)
    assert [run.id for run in load_study(tmp_path).runs] == ["one-seed0.1"]


def test_while_nothing_is_chosen_the_first_is_shown(tmp_path):
    def stop(event):
        if event.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, DML, teacher=None, progress=stop)
    assert [run.id for run in load_study(tmp_path).runs] == ["one-seed0"]


def steps_by_hand(arms, folder, epochs=2):
    """(pixels, target, rate) of every step."""
    plan = cohorts(recipe(arms, teacher=None))[-1]
    how, span = recipe(arms, teacher=None).optimizer, plan.runs[0].stages[0].span
    for epoch in range(1, epochs + 1):
        batches = seen(recipe(arms, teacher=None), epoch)
        for step, (pixels, target) in enumerate(batches):
            yield pixels, target, learning_rate(how, span, epoch - 1 + step / len(batches))


def sgd(weights):
    return torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)


def test_mutual_learning_is_a_plain_loop_over_two_networks(mutual):
    one, two = (network(mutual, run) for run in NAMES[:2])
    optimizers = [sgd(one.parameters()), sgd(two.parameters())]
    for pixels, target, rate in steps_by_hand(DML, mutual):
        answers = one(pixels), two(pixels)
        soft = [(logits / 2).log_softmax(1) for logits in answers]
        for ours, theirs, logits, optimizer in (
            (soft[0], soft[1].detach(), answers[0], optimizers[0]),
            (soft[1], soft[0].detach(), answers[1], optimizers[1]),
        ):
            apart = 4 * (theirs.exp() * (theirs - ours)).sum(1).mean()
            optimizer.zero_grad()
            (F.cross_entropy(logits, target) + apart).backward()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    for run, body in zip(NAMES, (one.body, two.body), strict=False):
        assert far(weights(mutual, run, 2), body.state_dict()) < 1e-4, run


def test_shared_layers_are_a_plain_loop_over_one_stem_with_two_heads(tmp_path):
    """The stem sees each batch once, and its gradient is the sum of both branches'."""
    folder = trained(tmp_path, SHARED, teacher=None)
    one, two = (network(folder, run) for run in NAMES[:2])
    upper = [w for key, w in two.body.named_parameters() if not key.startswith(LOWER)]
    optimizer = sgd([*one.parameters(), *upper])
    for pixels, target, rate in steps_by_hand(SHARED, folder):
        inside = one.body.lower(one.normalised(pixels))
        loss = sum(F.cross_entropy(net.body.upper(inside), target) for net in (one, two))
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    wanted = one.body.state_dict()
    assert far(weights(folder, "one-seed0", 2), wanted) < 1e-4
    above = {k: v for k, v in two.body.state_dict().items() if not k.startswith(LOWER)}
    whole = {**wanted, **above}
    assert far(weights(folder, "one-seed0.1", 2), whole) < 1e-4
    assert int(weights(folder, "one-seed0.1", 2)["bn1.num_batches_tracked"]) == 6


def test_branches_share_the_bits_of_their_lower_layers_and_no_others(branched):
    for epoch in range(3):
        first, *others = (weights(branched, run, epoch) for run in NAMES)
        for other in others:
            for key in first:
                if key.startswith(LOWER):
                    assert torch.equal(first[key], other[key]), key
            assert not torch.equal(first["layer3.0.conv1.weight"], other["layer3.0.conv1.weight"])
            assert not torch.equal(first["fc.weight"], other["fc.weight"])
    start, end = (weights(branched, "one-seed0.2", epoch) for epoch in (0, 2))
    assert not torch.equal(start["conv1.weight"], end["conv1.weight"])


@pytest.mark.parametrize("run", NAMES)
def test_the_file_of_a_branch_is_a_network_that_answers_as_the_branch_did(branched, run):
    there = load_file(branched / run / "preds" / "epoch-0002.safetensors")
    alone = network(branched, run, 2).eval()
    from toystudy import place

    held = place(recipe(ONE, teacher=None)).validation
    with torch.no_grad():
        logits = alone(held.pixels[there["rows"]])
    assert torch.equal(held.rows, there["rows"])
    assert float((logits - there["logits"].float()).abs().max()) < 2e-2
    assert torch.equal(logits.argmax(1), there["logits"].argmax(1))


def test_the_gate_is_saved_once_beside_the_first_branch_and_learns(branched):
    files = sorted((branched / "one-seed0" / "adapters").glob("*.safetensors"))
    assert [file.name for file in files] == [f"epoch-000{epoch}.safetensors" for epoch in range(3)]
    start, end = load_file(files[0]), load_file(files[-1])
    assert {key.split(".", 2)[-1] for key in start} >= {"gate.score.weight", "gate.norm.weight"}
    assert next(v for k, v in start.items() if k.endswith("score.weight")).shape == (3, 4)
    assert not same(start, end)
    for run in NAMES[1:]:
        assert not (branched / run / "adapters").exists()
    for run in NAMES:
        assert not any("gate" in key for key in weights(branched, run, 2))


def test_each_network_has_a_regressor_of_its_own(tmp_path):
    arms = {"one": arm("cross_entropy + dml + fitnet(regressor='conv')", together=2)}
    folder = trained(tmp_path, arms)
    found = load_file(folder / "one-seed0" / "adapters" / "epoch-0002.safetensors")
    regressors = [value for key, value in found.items() if key.endswith("weight")]
    assert len(regressors) == 2
    assert not torch.equal(*regressors)


def test_a_network_that_cannot_be_parted_is_refused(tmp_path, monkeypatch):
    from kdprobe.models.resnet import ResNet

    monkeypatch.delattr(ResNet, "upper_parts")
    with pytest.raises(InputError, match=r"found share='stage2'; wanted \"stage2\", of a bundled"):
        trained(tmp_path, ONE, teacher=None)
    assert not (tmp_path / "one-seed0").exists()


def test_networks_are_parted_at_stage2_alone(tmp_path):
    arms = {"one": arm("cross_entropy", together=2, share="stage1")}
    with pytest.raises(InputError, match=r"arms.one: found share='stage1'; wanted \"stage2\""):
        trained(tmp_path, arms, teacher=None)


@pytest.mark.parametrize(
    ("one", "key", "words"),
    [
        (
            arm("cross_entropy + dml"),
            "arms.one.loss",
            "position 17: found 'dml', which needs other networks; set together = 2 or more",
        ),
        (
            arm("cross_entropy", share="stage2"),
            "arms.one.share",
            "found one network; wanted together = 2 or more",
        ),
    ],
)
def test_company_that_is_not_there_is_refused(one, key, words):
    with pytest.raises(RecipeError) as error:
        recipe({"one": one}, teacher=None)
    assert f"\n  {key}: {words}" in str(error.value)


def test_without_validation_nobody_could_choose():
    with pytest.raises(RecipeError, match=r"data.validation: found 0; .* for arms.one.together"):
        recipe(DML, "data.validation=0.0", teacher=None)
