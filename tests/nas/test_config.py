"""Configurations: what is loaded, and that every fault is reported with a hint, all in one go."""

from __future__ import annotations

import pytest
import yaml

from nas.config import ExperimentConfig, load_config, restore_config
from nas.yaml_config import ConfigError, read_yaml, shipped_configs
from search_spaces.presets import spaces


def faults(*overrides: str, config: str = "digits") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(config, list(overrides))
    return caught.value.faults


SEARCHES = [name for name, path in shipped_configs().items() if "variants" not in read_yaml(path, "")]


@pytest.mark.parametrize("name", SEARCHES)
def test_shipped_configurations_are_valid_and_named_like_their_file(name):
    assert load_config(name).name == name


def test_overrides_are_yaml_values():
    config = load_config("digits", ["search.trials=7", "pruning=null", "baselines=[ReLU]", "data.val_fraction=0.5"])
    assert config.search.trials == 7
    assert config.pruning is None
    assert config.baselines == ("ReLU",)
    assert config.data.options == {"val_fraction": 0.5}


def test_options_of_components_are_converted_like_the_others():
    """YAML 1.1 reads 1e-1 as text; a quoted number and a whole float are meant as numbers."""
    options = ["data.val_fraction=1e-1", "strategy.startup=32.0", "model.width='4'", "space.units='2'"]
    config = load_config("digits", options)
    assert config.data.options["val_fraction"] == 0.1
    assert config.strategy.options["startup"] == 32
    assert isinstance(config.strategy.options["startup"], int)
    assert config.model.options["width"] == 4
    assert config.make_space().size == 6_250**2
    cifar = load_config("cifar10_resnet20", ["data.download='no'"])
    assert cifar.data.options["download"] is False


def test_the_strategy_has_a_default():
    """So that options of it, or another one, can be given alone."""
    assert load_config("digits").strategy.name == "surrogate"
    assert load_config("digits", ["strategy.kappa=2"]).strategy.model_dump() == {"name": "surrogate", "kappa": 2.0}
    for override in ("strategy.name=tpe", "strategy=tpe", "strategy={name: tpe}"):
        assert load_config("digits", [override]).strategy.model_dump() == {"name": "tpe"}


def test_a_name_alone_is_a_component():
    assert load_config("digits", ["space=tree"]).make_space().size == spaces.get("tree")().size
    assert "did you mean 'tree'" in faults("space=treee")[0]


def test_a_file_does_not_hide_a_shipped_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("not one")
    assert load_config("digits").name == "digits"


def test_an_unknown_name_is_answered_with_the_searches():
    assert faults(config="nope") == [f"no such file, nor a shipped configuration; known: {', '.join(sorted(SEARCHES))}"]


def test_unreadable_names_are_refused():
    assert "cannot be read" in faults(config="x" * 300)[0]


def test_a_stored_configuration_is_restored():
    config = load_config("digits", ["seed=3"])
    assert restore_config(config.model_dump(mode="json")) == config


def test_a_data_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("cifar10_resnet20", ["data.root=here"]).data.options["root"] == str(tmp_path / "here")


def test_all_faults_in_one_go():
    found = faults(
        "serch.trials=3", "model.name=resnet9", "recipe.learning_rate=fast", "strategy.popsize=3", "workers=0"
    )
    text = "\n".join(found)
    assert len(found) >= 5
    assert "unknown key 'serch'; did you mean 'search'?" in text
    assert "unknown model 'resnet9'; did you mean 'resnet8'?" in text
    assert "recipe.learning_rate" in text
    assert "(got 'fast')" in text
    assert "has no option 'popsize'" in text
    assert "workers" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trails=3", "did you mean 'trials'"),
        ("trials=5", "unknown key 'trials'; did you mean 'search.trials'?"),
        ("rungs=[1]", "unknown key 'rungs'; did you mean 'pruning.rungs'?"),
        ("seeds=2", "unknown key 'seeds'; did you mean 'retrain.seeds'?"),  # and not the near miss, seed
        ("top=5", "unknown key 'top'; did you mean 'warm_start.top' or 'retrain.top'?"),
        ("trial.trials=5", "unknown key 'trial.trials'; known: device, epochs"),
        ("space.name=swish2018", "unknown search space 'swish2018'; did you mean 'swish2017'?"),
        ("space.units=0", "units: Input should be greater than or equal to 1 (got 0)"),
        ("strategy.name=evolutoin", "did you mean 'evolution'"),
        ("strategy={name: evolution, tournament_size: 99}", "tournament_size is 1 to population_size = 32, got 99"),
        ("strategy={name: evolution, crossover_probability: 2}", "crossover_probability"),
        ("data.name=digit", "unknown data set 'digit'; did you mean 'digits'?"),
        ("model.width=wide", "width: Input should be a valid integer"),
        ("baselines=[sillu]", "unknown activation 'sillu'; did you mean 'SiLU'"),
        ("pruning.rungs=[5, 2]", "rungs are epochs in rising order, got [5, 2]"),
        ("trial.epochs=5", "pruning.rungs lie below trial.epochs = 5, got [2, 5]"),
        ("name=a/b", "name"),
        ("seed=-1", "seed"),
        ("name.x=1", "'name' is a value, not a section"),
        ("search.trials={1", "is not YAML"),
        ("nonsense", "has the form key=value, got 'nonsense'"),
        ("space=null", "space"),
        ("name=2026-13-45", "is not YAML"),
        ("seed=" + "9" * 5000, "is not YAML"),
        ("name=" + "[" * 3000, "is not YAML"),
        ("model={name: resnet8, 5: 3}", "has no option '5'"),
        ("data={name: cifar10, root: ~nosuchuserhere}", "nosuchuserhere"),
        ("space.units=5000000000000", "less than or equal to 8"),
        ("strategy={name: evolution, population_size: 99999999999999999999}", "less than or equal to"),
        ("strategy.kappa=.nan", "kappa"),
        ("recipe.learning_rate=.inf", "finite number"),
        ("search.equivalence=loose", "'exact', 'reflection' or 'affine'"),
    ],
)
def test_single_faults(override, message):
    assert any(message in fault for fault in faults(override)), faults(override)


def test_files_that_are_no_configuration(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1,")
    assert "cannot be read as YAML" in faults(config=str(path))[0]
    path.write_text("- 1\n- 2\n")
    assert "a mapping of keys to values, got list" in faults(config=str(path))[0]
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as YAML" in faults(config=str(path))[0]
    path.write_text("name: t\n")
    assert {f.split(":")[0] for f in faults(config=str(path))} == {"space", "model", "data"}
    assert "did you mean 'digits'" in faults(config="digit")[0]


def test_what_is_no_override_is_no_fault_of_the_file():
    with pytest.raises(ConfigError, match=r"^command line: an override has the form key=value, got 'runs/mine'$"):
        load_config("digits", ["runs/mine"])


def test_a_misspelt_operator_of_a_space_has_a_hint():
    options = ["space={name: custom, shapes: ['u(x)'], unary: [x, tanhh]}"]
    assert faults(*options) == ["space: unary template 'tanhh': no such operator; did you mean 'tanh'?"]


def test_a_file_in_place_of_a_space_and_nothing_in_place_of_a_section():
    (fault,) = faults("space=mine.yaml")
    assert fault.startswith("space: 'mine.yaml' is a file; put its lines under space: in a configuration of your own")
    assert faults("retrain=null") == ["retrain: a section is a mapping of keys to values (got None)"]


def test_what_is_no_search_is_answered_with_one_sentence(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: swish2017\nunits: 1\n")
    assert faults(config=str(file)) == [
        f"this is a search space, not a search; in an experiment it stands under space: (nas space {file} describes it)"
    ]
    assert faults(config="passkey") == ["this is a comparison of models, not a search; run nas compare passkey"]
    file.write_text("name: digits\nunits: 1\n")
    assert "unknown key 'units'; did you mean 'space.units'?" in faults(config=str(file))


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/hacked']\n")
    assert "cannot be read as YAML" in faults(config=str(path))[0]
    assert not (tmp_path / "hacked").exists()


def test_dumped_configuration_is_plain_yaml():
    dumped = yaml.safe_dump(load_config("digits").model_dump(mode="json"))
    assert ExperimentConfig.model_validate(yaml.safe_load(dumped)) == load_config("digits")
