"""A recipe that begins with another: its tables are filled up, what is named anew begins anew."""

from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import load_recipe


def based(tmp_path, text):
    file = tmp_path / "mine.toml"
    file.write_text(f'base = "tiny"\nname = "mine"\n{text}')
    return load_recipe(file)


def test_tables_are_filled_up_key_by_key(tmp_path):
    found, tiny = based(tmp_path, "[optimizer]\nlr = 0.5\n"), load_recipe("tiny")
    assert (found.name, found.optimizer.lr) == ("mine", 0.5)
    assert found.optimizer.batch_size == tiny.optimizer.batch_size
    assert found.arms == tiny.arms


def test_another_model_or_data_set_takes_over_no_arguments(tmp_path):
    found = based(
        tmp_path,
        '[data]\nname = "digits"\n[teacher]\nmodel = { name = "wrn_16_1" }\n'
        '[arms.kd]\nmodel = { name = "resnet8", arguments = { width = 9 } }\n',
    )
    assert (found.data.name, found.data.arguments) == ("digits", {})
    assert found.data.shift == 1, "what is not of the data set itself stays"
    assert found.teacher is not None
    assert found.teacher.model.arguments == {}
    assert found.arms["kd"].model.arguments == {"width": 9}
    assert found.arms["baseline"].model.arguments == {"width": 4}


def test_a_recipe_beside_the_file_is_found_and_may_have_a_base_itself(tmp_path):
    (tmp_path / "first.toml").write_text('base = "tiny"\nname = "first"\nseeds = [7]\n')
    (tmp_path / "second.toml").write_text('base = "first.toml"\nname = "second"\n')
    found = load_recipe(tmp_path / "second.toml")
    assert (found.name, found.seeds) == ("second", (7,))


def test_the_teacher_may_keep_its_epochs_by_the_schedule_too(tmp_path):
    found = based(tmp_path, '[teacher]\nepochs = 30\ncheckpoints = "auto"\n')
    teacher, *_ = cohorts(found)
    assert teacher.checkpoints == (*range(11), *range(11, 31)), "every one of 30: a twentieth is 1"
