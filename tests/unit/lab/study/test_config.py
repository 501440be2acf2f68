from pathlib import Path

import pytest

from arpo.errors import ConfigError
from arpo.lab.study.config import StudyConfig, load_study
from arpo.recipes import find_study

MAIN = """
runs = [[0, 0], [1, 0], [0, 1]]
num_steps = 4
checkpoint_every = 2
budget_arm = "arpo"
[arms.arpo]
about = "a"
algorithm = "arpo"
"""


def study(folder: Path, *texts: str) -> StudyConfig:
    paths = [folder / f"{index}.toml" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return load_study(paths)


def test_files_unite_their_arms(tmp_path: Path):
    found = study(tmp_path, MAIN, '[arms.grpo]\nabout = "g"\nalgorithm = "grpo"\nnum_runs = 2\n')
    assert list(found.arms) == ["arpo", "grpo"]
    assert found.runs_of("arpo") == ((0, 0), (1, 0), (0, 1))
    assert found.runs_of("grpo") == ((0, 0), (1, 0))


def test_functions_of_ones_own_are_relative_to_the_file_that_names_them(tmp_path: Path):
    (tmp_path / "a").mkdir()
    keys = '[rl]\nreward = "r.py:f"\n[test.agent.tools.functions]\ncalc = "a/t.py:calc"\n'
    paths = [tmp_path / "main.toml", tmp_path / "a" / "more.toml"]
    paths[0].write_text(MAIN + keys)
    paths[1].write_text('[arms.grpo]\nabout = "g"\nalgorithm = "grpo"\n[arms.grpo.rl.reward]\nrule = "r.py:f"\n')
    found = load_study(paths)
    assert found.rl["reward"]["rule"] == f"{tmp_path / 'r.py'}:f"
    assert found.test["agent"]["tools"]["functions"]["calc"] == f"{tmp_path / 'a' / 't.py'}:calc"
    assert found.arms["grpo"].rl["reward"]["rule"] == f"{tmp_path / 'a' / 'r.py'}:f"


def test_the_shipped_files_are_one_study():
    found = load_study(
        [find_study(name) for name in ("main", "baselines", "parts", "controls", "frugal", "rates", "attribution")]
    )
    on_every_run = {name for name in found.arms if found.arms[name].num_runs is None}
    assert {"grpo", "arpo", "random", "aepo", "tokens_n4", "grpo_m8"} <= on_every_run
    assert len(found.runs) >= 5
    assert all(len(found.runs_of(name)) >= 3 for name in found.arms)
    assert len({world for world, _ in found.runs}) == 2
    assert found.num_test >= 2000


def test_the_shipped_files_are_the_study_and_that_of_the_quickstart():
    """Every file belongs to one of the two, so none is forgotten by the test above."""
    shipped = {path.stem for path in find_study("main").parent.glob("*.toml")}
    assert shipped == {"main", "baselines", "parts", "controls", "frugal", "rates", "attribution", "quickstart"}
    found = load_study([find_study("quickstart")])
    assert set(found.arms) == {"arpo", "grpo", "random", "more_sft"}
    assert len({world for world, _ in found.runs}) == len(found.runs) == 5


def test_an_arm_may_try_learning_rates_of_its_own(tmp_path: Path):
    own = '[arms.x]\nabout = "x"\nalgorithm = "grpo"\nlearning_rates = [1e-2, 1e-3]\n'
    found = study(tmp_path, "learning_rates = [1e-4]\n" + MAIN, own)
    assert found.learning_rates_of("arpo") == (1e-4,)
    assert found.learning_rates_of("x") == (1e-3, 1e-2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("num_steps = 5\n", r"1\.toml: num_steps is set by .*0\.toml too"),
        ('[arms.arpo]\nabout = "again"\nalgorithm = "arpo"\n', r"arms\.arpo is set by"),
        ('[arms.x]\nabout = "x"\n', r"arms\.x: algorithm = None with kind = 'rl': an rl arm has one"),
        ('[arms.x]\nabout = "x"\nkind = "sft"\nalgorithm = "arpo"\n', "the others none"),
        (
            '[arms.x]\nabout = "x"\nkind = "sft"\nrl = {seed = 1}\n',
            "has no effect with arms.x.kind = 'sft'",
        ),
        (
            '[arms.x]\nabout = "x"\nkind = "sft"\nlearning_rates = [1e-3]\n',
            "has no effect with arms.x.kind = 'sft'",
        ),
        (
            '[arms.x]\nabout = "x"\nalgorithm = "grpo"\nlearning_rates = [1e-3]\nrl = {optimizer = {learning_rate = 1e-4}}\n',
            r"arms\.x\.rl\.optimizer\.learning_rate = 0\.0001 has no effect where learning_rates are tried",
        ),
        ('[arms.x]\nabout = "x"\nalgorithm = "arpo"\nnum_runs = 4\n', r"arms\.x\.num_runs = 4 exceeds the 3 runs"),
        ('[arms.x]\nabout = "x"\nalgorithm = "arpo"\nrates_of = "y"\n', r"arms\.x\.rates_of = 'y': name an rl arm"),
        (
            '[arms.x]\nabout = "x"\nalgorithm = "grpo"\nrl = {seed = 3}\n',
            r"arms\.x\.rl\.seed is not for this section: the study's runs",
        ),
        (
            '[arms.x]\nabout = "x"\nalgorithm = "grpo"\nrl = {validation = {every = 3}}\n',
            r"arms\.x\.rl\.validation\.every is not for this section: the study's num_steps decides it",
        ),
        (
            '[arms.x]\nabout = "x"\nalgorithm = "grpo"\nrl = {num_steps = 2}\n',
            r"arms\.x\.rl\.num_steps = 2: give a multiple of checkpoint_every = 2, and at least the 4 steps",
        ),
        ('[arms.x]\nabout = "x"\nalgorithm = "grpo"\nrl = {num_steps = 7}\n', r"arms\.x\.rl\.num_steps = 7: give a multiple"),
        (
            'learning_rates = [1e-3]\n[arms.x]\nabout = "x"\nalgorithm = "grpo"\nrl = {optimizer = {learning_rate = 1e-4}}\n',
            r"arms\.x\.rl\.optimizer\.learning_rate = 0\.0001 has no effect where learning_rates are tried",
        ),
        ('[rl]\nalgorithm = "grpo"\n', r"rl\.algorithm is not for this section: the study's arms\.<name>\.algorithm"),
        ("[rl]\nnum_steps = 8\n", r"rl\.num_steps is not for this section: the study's num_steps decides it"),
        ("[world]\nseed = 1\n", r"world\.seed is not for this section: the study's runs decides it"),
        ("[test]\nnum_tasks = 1\n", r"test\.num_tasks is not for this section: the study's num_test decides it"),
        ('[test.model]\npath = "mine"\n', r"test\.model\.path is not for this section: the study's arms decides it"),
        ("wurlds = 1\n", "wurlds: unknown key; did you mean 'world'"),
    ],
)
def test_what_makes_no_study_is_refused(tmp_path: Path, more: str, message: str):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, MAIN, more)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('budget_arm = "arpo"', 'budget_arm = "grpo"', "budget_arm = 'grpo': name an rl arm that has all runs; arms: arpo"),
        ("num_steps = 4", "num_steps = 5", "num_steps = 5 is no multiple of checkpoint_every = 2"),
        ("[0, 1]]", "[0, 0]]", r"give every \(world, seed\) once"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, message: str):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, MAIN.replace(old, new))
