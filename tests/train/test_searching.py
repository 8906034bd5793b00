"""A search within a budget: what is drawn, which arms come of it, and rankings of made-up runs."""

import json
import math
import re
from itertools import combinations

import pytest
import torch

from kdprobe.errors import InputError, UnknownName
from kdprobe.models.contract import make_body
from kdprobe.models.cost import cost_of
from kdprobe.pairing import arms_of, pairs_by_arm
from kdprobe.train.ranking import Standing, Trial, agreement, ranked, ranking, write_search
from kdprobe.train.searching import candidate, candidates, parted, searched_arms
from kdprobe.train.settings import Arm, Search

LOSSES = {"ce": "cross_entropy", "kd": "0.1*cross_entropy + 0.9*kd(T=4)"}


def search(**changes):
    table = {
        "family": "resnet{depth}",
        "depths": (8, 14),
        "widths": (2, 4, 6),
        "macs": 1e6,
        "side": 16,
        "count": 3,
        "losses": LOSSES,
    }
    return Search(**(table | changes))


def macs(depth, width):
    body = make_body(f"resnet{depth}", num_classes=10, width=width)
    return cost_of(body, (3, 16, 16)).macs


def test_all_that_is_drawn_is_different_and_within_the_budget():
    for seed in range(6):
        found = candidates(search(seed=seed))
        assert len({one.name for one in found}) == 3
        costs = [one.cost.macs for one in found]
        assert costs == sorted(costs)
        assert max(costs) <= 1e6
        for one in found:
            assert one.name == f"d{one.depth}w{one.width}"
            assert one.model == {"name": f"resnet{one.depth}", "arguments": {"width": one.width}}
            assert one.cost.macs == macs(one.depth, one.width)


def test_every_network_within_the_budget_can_be_drawn_and_no_other():
    budget = macs(14, 4)
    fits = {(d, w) for d in (8, 14) for w in (2, 4, 6) if macs(d, w) <= budget}
    assert 1 < len(fits) < 6
    drawn = {
        (one.depth, one.width)
        for seed in range(40)
        for one in candidates(search(seed=seed, macs=budget, count=1))
    }
    assert drawn == fits
    whole = candidates(search(macs=budget, count=len(fits)))
    assert {(one.depth, one.width) for one in whole} == fits, "the budget itself is within it"


def test_the_same_table_draws_the_same_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    first = candidates(search(seed=5))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert candidates(search(seed=5)) == first
    assert candidates(search(seed=5, depths=(8, 14, 8), widths=(2, 4, 2, 6))) == first


def test_width_is_a_knob_or_a_part_of_the_name():
    one = candidate(search(family="wrn_{depth}_{width}"), 10, 2)
    assert one.model == {"name": "wrn_10_2", "arguments": {}}
    assert one.name == "d10w2"


def test_arms_are_crossed_and_fit_the_settings():
    losses = {**LOSSES, "ls": "label_smoothing"}
    arms = searched_arms(search(losses=losses))
    names = [one.name for one in candidates(search())]
    assert list(arms) == [f"{name}-{loss}" for name in names for loss in losses]
    for name, table in arms.items():
        arm = Arm.model_validate(table)
        assert arm.loss == losses[name.split("-")[1]]
        assert arm.role == {"ce": "baseline", "kd": "student", "ls": "control"}[name.split("-")[1]]
    models = {json.dumps(table["model"]) for table in arms.values()}
    assert len(models) == 3, "both losses train the same networks"


def test_students_of_a_search_have_baselines_of_their_seed():
    class Run:
        def __init__(self, arm, role, seed):
            self.arm, self.role, self.seed = arm, role, seed

    arms = searched_arms(search())
    runs = [Run(name, table["role"], seed) for name, table in arms.items() for seed in (0, 1)]
    assert len(arms_of(runs, "baseline")) == len(pairs_by_arm(runs)) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"macs": 10},
            r"found 0 of 6 networks 'resnet\{depth\}' within 10 multiply-adds.*cheapest",
        ),
        ({"count": 7, "macs": 1e9}, r"found 6 of 6 .* within 1,000,000,000 .*wanted 7: raise macs"),
        ({"family": "resnet8"}, r"found family='resnet8'; wanted a name with the place \{depth\}"),
        ({"family": "resnet{}"}, r"found family='resnet\{\}'; wanted"),
        ({"family": "resnet{depth"}, r"found family='resnet\{depth'; wanted"),
        ({"family": "resnet{depth}{x4}"}, r"wanted a name with the place"),
        ({"depths": (9,)}, r"found depth 9 in 'resnet9'"),
        ({"widths": (0,)}, r"found width 0"),
        ({"family": "vit_{depth}_32"}, r"does not take these settings"),
        ({"losses": {"kd": "kd", "ce": "cross_entropy"}}, r"found losses.kd, the first one, with"),
        ({"losses": {"ce": "cross entropy"}}, r"losses.ce: position 7"),
    ],
)
def test_what_is_wrong_with_a_search_is_told(changes, told):
    with pytest.raises(InputError, match=told):
        searched_arms(search(**changes))


def test_an_unknown_family_is_told_with_the_nearest():
    with pytest.raises(UnknownName, match="no model is called 'resnt"):
        candidates(search(family="resnt{depth}"))


def test_a_refusal_names_the_cheapest():
    with pytest.raises(InputError, match=re.escape(f"the cheapest needs {macs(8, 2):,}")):
        candidates(search(macs=10))


@pytest.mark.parametrize(
    ("arm", "wanted"),
    [
        ("d14w8-kd", ("d14w8", "kd")),
        ("d14w8-kd-hot", ("d14w8", "kd-hot")),
        ("d14w8-at", None),
        ("d14w8", None),
        ("d14-kd", None),
        ("14w8-kd", None),
        ("baseline", None),
        ("dw-kd", None),
    ],
)
def test_arms_are_parted_into_candidate_and_loss(arm, wanted):
    assert parted(arm, ["kd", "kd-hot"]) == wanted


def trials(scores, seeds=(0,), spread=0.0):
    """loss -> {candidate: accuracy} as trials; cost rises in the order of the names."""
    return [
        Trial(name, loss, seed, right + spread * (seed - 0.5), right / 2, {"macs": len(scores) + i})
        for loss, rows in scores.items()
        for i, (name, right) in enumerate(sorted(rows.items()))
        for seed in seeds
    ]


def test_candidates_are_ranked_by_the_mean_over_seeds():
    scores = {"ce": {"a": 0.5, "b": 0.7, "c": 0.6}, "kd": {"a": 0.9, "b": 0.8, "c": 0.85}}
    found = ranking(trials(scores, (0, 1), spread=0.02), ["ce", "kd"])
    assert [row.candidate for row in found.standings["ce"]] == ["b", "c", "a"]
    assert [row.candidate for row in found.standings["kd"]] == ["a", "c", "b"]
    assert found.best["ce"].candidate == "b"
    assert found.best["kd"].validation_accuracy == pytest.approx(0.9)
    assert found.best["kd"].test_accuracy == pytest.approx(0.45)
    assert found.best["kd"].seeds == 2
    (pair,) = found.agreements
    assert (pair.first, pair.second, pair.candidates) == ("ce", "kd", 3)
    assert pair.tau == pytest.approx(-1)
    assert pair.p == pytest.approx(1 / 3), "2 of the 6 orders of three are as extreme"


def test_of_equals_the_cheaper_is_better():
    found = ranking(trials({"ce": {"b": 0.7, "a": 0.7, "c": 0.7}}), ["ce"])
    assert [row.candidate for row in found.standings["ce"]] == ["a", "b", "c"]
    assert found.agreements == ()


def tau_b(x, y):
    """By counting pairs."""
    signs = [
        ((x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j]))
        for i, j in combinations(range(len(x)), 2)
    ]
    product = sum(a * b for a, b in signs)
    return product / math.sqrt(sum(a * a for a, _ in signs) * sum(b * b for _, b in signs))


def standings(scores):
    return [Standing(str(i), score, None, 1, {}) for i, score in enumerate(scores)]


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_counted_pairs_in_any_order(seed):
    chance = torch.Generator().manual_seed(seed)
    x, y = (torch.randint(0, 6, (9,), generator=chance).tolist() for _ in range(2))
    ours, theirs = standings(x), standings(y)
    found = agreement("ce", "kd", ours, theirs[::-1])
    assert found.tau == pytest.approx(tau_b(x, y))
    assert 0 < found.p <= 1
    assert agreement("kd", "ce", theirs, ours).tau == pytest.approx(found.tau)


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5, 0.5]])
def test_where_nothing_can_be_ranked_tau_is_none(scores):
    found = agreement("ce", "kd", standings(scores), standings(scores))
    assert (found.tau, found.p) == (None, None)


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (("a", "kd", 1), "without a-kd of seed 1; wanted every candidate"),
        (("b", "ce", 0), "without b-ce of seed 0"),
    ],
)
def test_a_missing_run_is_named(left_out, told):
    rows = trials({"ce": {"a": 0.5, "b": 0.7}, "kd": {"a": 0.5, "b": 0.7}}, (0, 1))
    rows = [row for row in rows if (row.candidate, row.loss, row.seed) != left_out]
    with pytest.raises(InputError, match=told):
        ranking(rows, ["ce", "kd"])


def test_no_run_at_all_is_told():
    with pytest.raises(InputError, match="found 0 candidates, without any run"):
        ranking([], ["ce"])


RIGHT = {"d8w2-ce": 0.5, "d8w2-kd": 0.6, "d8w4-ce": 0.7, "d8w4-kd": 0.65, "d14w2-ce": 0.6}
RIGHT |= {"d14w2-kd": 0.7, "extra": 0.99}


def study(folder, status="finished", validation=True):
    """A folder as the trainer leaves it, without weights."""
    for i, (arm, right) in enumerate(RIGHT.items()):
        run = folder / f"{arm}-seed0"
        run.mkdir(parents=True)
        model = {"name": "resnet8", "num_classes": 10}
        entry = {"id": run.name, "role": "baseline", "arm": arm, "seed": 0, "network": model}
        record = {"run": {**entry, "status": status}, "cost": {"macs": i, "parameters": 10 * i}}
        (run / "run.json").write_text(json.dumps(record))
        lines = [
            {"validation_accuracy": value if validation else None, "test_accuracy": test}
            for value, test in ((0.999, None), (right, right / 2))
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run / "metrics.jsonl").write_text(text)
    index = {"name": "s", "data": {"name": "digits"}, "runs": [f"{arm}-seed0" for arm in RIGHT]}
    (folder / "study.json").write_text(json.dumps(index))
    return folder


def test_a_folder_of_runs_is_ranked_by_the_last_epoch_and_written(tmp_path):
    found = write_search(study(tmp_path), search())
    assert found.best["ce"].candidate == "d8w4"
    assert found.best["kd"].candidate == "d14w2"
    assert found.best["kd"].cost == {"macs": 5, "parameters": 50}
    assert found.best["kd"].test_accuracy == 0.35
    (pair,) = found.agreements
    assert pair.tau == pytest.approx(tau_b([0.5, 0.7, 0.6], [0.6, 0.65, 0.7]))
    written = json.loads((tmp_path / "search.json").read_text())
    assert [row["candidate"] for row in written["standings"]["kd"]] == ["d14w2", "d8w4", "d8w2"]
    assert written["agreements"][0]["tau"] == pair.tau
    assert written["best"]["ce"]["validation_accuracy"] == 0.7


def test_fewer_candidates_than_drawn_are_told(tmp_path):
    with pytest.raises(InputError, match=r"found 3 of 4 candidates in .*wanted all of the search"):
        ranked(study(tmp_path), search(count=4))


def test_runs_in_training_are_told(tmp_path):
    with pytest.raises(InputError, match="'d8w2-ce-seed0' is still in training; wanted all"):
        ranked(study(tmp_path, status="running"), search())


def test_without_validation_nothing_is_chosen(tmp_path):
    with pytest.raises(InputError, match=r"no validation accuracy; wanted .*data.validation above"):
        ranked(study(tmp_path, validation=False), search())


@pytest.mark.parametrize("content", [None, "", "{}", "{torn"])
def test_results_that_cannot_be_read_are_told(tmp_path, content):
    file = study(tmp_path) / "d8w4-kd-seed0" / "metrics.jsonl"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(InputError, match="cannot read the results of run 'd8w4-kd-seed0'"):
        ranked(tmp_path, search())
