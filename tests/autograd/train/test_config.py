"""The config: every key of the captioning reference with its default, errors that say where and what, and what is printed."""

import dataclasses
import json
from pathlib import Path

import pytest

from autograd.train.config import (
    Config,
    ConfigError,
    Named,
    json_schema,
    load_config,
    parse,
    registry,
    to_mapping,
    to_yaml,
    unused_keys,
)
from autograd.train.config.parse import all_keys, get
from autograd.train.config.render import reference
from autograd.train.config.text import read_yaml

ROOT = Path(__file__).resolve().parents[3]

REFERENCE = {
    "device": "cuda", "seed": 42,
    "data.images_dir": None, "data.caption_file": None, "data.vocab_path": None, "data.image_size": 224, "data.batch_size": 32,
    "data.num_workers": 4, "data.val_split": 0.2, "data.freq_threshold": 5,
    "model.embed_size": 512, "model.decoder_dim": 512, "model.encoder_dim": 512, "model.dropout": 0.5,
    "model.encoder_fine_tune": False, "model.encoded_image_size": 14,
    "training.epochs": 50, "training.lr": 1e-4, "training.lr_mode": "continue", "training.finetune_lr": 1e-5,
    "training.grad_clip": 5.0, "training.use_amp": True, "training.save_every_epoch": False,
    "training.checkpoint_dir": "./checkpoints", "training.resume_from": None,
    "scheduler.type": "ReduceLROnPlateau", "scheduler.factor": 0.5, "scheduler.patience": 2, "scheduler.min_lr": 1e-7,
    "early_stopping.enabled": True, "early_stopping.patience": 5, "early_stopping.min_delta": 1e-4,
    "early_stopping.track_overfitting": True, "early_stopping.overfitting_gap_threshold": 0.5,
    "early_stopping.overfitting_patience": 3,
    "logging.tensorboard": False, "logging.tensorboard_dir": "./runs", "logging.use_wandb": False,
    "logging.wandb.project": None, "logging.wandb.entity": None,
    "metrics.bleu": True, "metrics.use_sacrebleu_if_available": True,
}  # fmt: skip
"""Keys and defaults of the captioning reference. Its examples of paths and its own WandB names are no defaults here."""


@pytest.mark.parametrize("key", REFERENCE)
def test_every_key_of_the_reference_has_its_default_and_a_meaning(key):
    value = get(Config(), key)
    assert value == REFERENCE[key] and type(value) is type(REFERENCE[key])
    assert len(all_keys()[key].meaning) > 15


def nested(flat):
    found = {}
    for path, value in flat.items():
        *outer, last = path.split(".")
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


def test_a_config_with_every_key_of_the_reference_reads():
    values = REFERENCE | {
        "data.images_dir": "./images", "data.caption_file": "./captions.csv", "data.vocab_path": "./vocab.pkl",
        "logging.wandb.project": "image-captioning", "logging.wandb.entity": "someone",
    }  # fmt: skip
    config = parse(nested(values), "reference")
    assert all(get(config, key) == value for key, value in values.items())
    assert unused_keys(config) == ["data.caption_file", "data.vocab_path"]
    with pytest.raises(ConfigError, match="task: captioning is not available yet"):
        parse({"task": "captioning", **nested(values)}, "reference")


def test_defaults_are_a_config():
    assert parse({}, "nothing") == Config()


# ---- files ----


def load(tmp_path, text, *overrides, name="run.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, overrides)


def refusal(tmp_path, text, *overrides, name="run.yaml"):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides, name=name)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message.removeprefix(f"{tmp_path}/")


def test_yaml_and_toml_say_the_same(tmp_path):
    yaml = """
        task: regression
        training: {lr: 1e-2, epochs: 0x10}
        optimizer:
          chain:
            - {name: clip_by_value, limit: 1}
            - sgd
        early_stopping:
        """
    toml = """
        task = "regression"
        training = {lr = 1e-2, epochs = 0x10}
        optimizer.chain = [{name = "clip_by_value", limit = 1}, "sgd"]
        """
    config = load(tmp_path, yaml)
    assert config == load(tmp_path, toml, name="run.toml")
    assert config.name == "run" and config.training.lr == 0.01 and config.training.epochs == 16
    assert config.optimizer.chain == (Named("clip_by_value", {"limit": 1.0}), Named("sgd"))
    assert load(tmp_path, "\ufeffseed: 1", name="other.yaml").name == "other"


def test_yaml_is_yaml_1_2():
    text = "[1e-4, 1e3, .5, 0o17, 0x1f, on, yes, 012, ~, null, true, TRUE, '1', \"a\\u00e9\", -.inf, +3, 1_000, 2020-01-01]"
    assert read_yaml(text, "x")[0] == [
        1e-4, 1e3, 0.5, 15, 31, "on", "yes", 12, None, None, True, True, "1", "aé", float("-inf"), 3, "1_000", "2020-01-01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\ntraining:\n  lrate: 1", "run.yaml:3: training.lrate: unknown key 'lrate'; did you mean lr? known: epochs"),
        ("lr: 1", "run.yaml:1: lr: unknown key 'lr'; did you mean training.lr?"),
        ("training:\n  lr: '1e-3'", "run.yaml:2: training.lr: must be a number of at least 0; got '1e-3'; write it without quotes"),
        ("training: {epochs: 1e2}", "run.yaml:1: training.epochs: must be a whole number from 1 to 2^31; got 100.0; write 100"),
        ("training: {use_amp: yes}", "must be true or false; got 'yes'; write true or false"),
        ("training: {use_amp: 1}", "must be true or false; got 1"),
        ("training: {lr: .nan}", "training.lr: must be a number of at least 0; got nan"),
        ("training: {lr: -1}", "got -1"),
        ("data: {val_split: 1}", "must be a number of at least 0 and below 1; got 1"),
        ("seed: -1", "seed: must be a whole number from 0 to 2^64 - 1; got -1"),
        ("seed: " + "9" * 100, "got a whole number of 100 digits"),
        ("seed: " + "9" * 9999, "run.yaml:1: a number of 9999 digits"),
        ("seed: true", "got true"),
        ("scheduler: {type: steplr}", "did you mean StepLR?"),
        ("training: 3", "training: must be keys and values; got 3"),
        ("- 1", "must be keys and values, as in 'seed: 1'; got [1]"),
        ("", "the file says nothing"),
        ("# nothing", "the file says nothing"),
        ("seed: 1\nseed: 2", "run.yaml:2: seed is given twice; first in line 1"),
        ("seed: 1\n---\nseed: 2", "run.yaml:2: a config is one document"),
        ("a: &x 1", "anchors and aliases"),
        ("a: !!python/object:os.system 1", "tags such as"),
        ("[" * 5000, "nested more than 20 levels deep"),
        ("a: [", "run.yaml:1: not valid YAML"),
        ("? [a]\n: 3", "a key must be a word"),
        ("\x01: 3", "not valid YAML"),
        (b"seed: \xff", "not a text file in UTF-8 (byte 6)"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\x80\x04", "is a pickle"),
        (b"#" * 1_000_001, "has more than 1,000,000 bytes"),
        ("device: gpu", "device: must be cpu, cuda or cuda:N; got 'gpu'"),
        ('name: ""', "name: must be text; got ''"),
        ("vortexx: {}", "did you mean vortex?"),
        ("energy: {}", "energy: is not available"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, message, monkeypatch):
    monkeypatch.setitem(registry._ENTRIES, "feature", {})  # the laboratory may have registered some
    assert message in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "run.toml: not valid TOML: Invalid value"),
        ("seed = 1\nseed = 2", "Cannot overwrite a value"),
        ("[training]\nlr = 'x'", "run.toml: training.lr: must be a number"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("a = " + "[" * 5000, "nested more than 20 levels deep"),
        ("seed = 2020-01-01", "seed: must be a whole number"),
    ],
)
def test_toml_too(tmp_path, text, message):
    assert message in refusal(tmp_path, text, name="run.toml")


def test_what_is_no_config_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"ends with .yaml, .yml or .toml"):
        load_config(tmp_path / "run.json")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "run.yaml")


# ---- overrides ----


def test_overrides_go_before_the_file(tmp_path):
    config = load(
        tmp_path, "training: {lr: 1}\nmodel:", "training.lr=1e-3", "device=cpu", "optimizer.chain=[{name: sgd, momentum: 0.9}]",
        "training.max_steps=", "name=x=y", "data.val_split = 0.5",
    )  # fmt: skip
    assert config.training.lr == 1e-3 and config.device == "cpu" and config.training.max_steps is None
    assert (
        config.optimizer.chain == (Named("sgd", {"momentum": 0.9}),)
        and config.name == "x=y"
        and config.data.val_split == 0.5
    )


def test_a_wrong_override_is_named(tmp_path):
    text = "training: {lr: 1}"
    assert "command line: 'training.lr' must be key.path=value" in refusal(tmp_path, text, "training.lr")
    assert "command line: training.lr: must be a number of at least 0; got 'x'" in refusal(
        tmp_path, text, "training.lr=x"
    )
    assert "command line: trainig: unknown key 'trainig'; did you mean training?" in refusal(
        tmp_path, text, "trainig.lr=1"
    )
    assert "training.lr is 1, which has no keys" in refusal(tmp_path, text, "training.lr.x=1")
    assert "not valid YAML" in refusal(tmp_path, text, "optimizer.chain=[sgd")


# ---- names ----


@pytest.fixture
def example(monkeypatch):
    """A registered model whose options have types."""
    monkeypatch.setitem(registry._ENTRIES, "model", dict(registry._ENTRIES["model"]))

    def mlp(hidden: tuple[int, ...] = (64,), *, bias: bool = True, seed: int = 0, width: float): ...

    registry.register("model", "example", mlp, supplied=("seed",))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("exmaple", "model.architecture: unknown model 'exmaple'; did you mean example?"),
        ("example", "example needs the option width: a number"),
        ({"name": "example", "width": 1, "hiden": [1]}, "model.architecture.hiden: unknown option of example 'hiden'; did you mean hidden?"),
        ({"name": "example", "width": 1, "hidden": [1.5]}, "must be a whole number; got 1.5"),
        ({"name": "example", "width": 1, "hidden": 3}, "must be a list, each a whole number; got 3"),
        ({"name": "example", "width": 1, "seed": 3}, "model.architecture.seed: is not set here: it comes from seed"),
        ({"width": 1}, "must be the name of a model, or its name and options"),
        (3, "must be the name of a model"),
    ],
)  # fmt: skip
def test_names_and_options_are_checked(example, value, message):
    with pytest.raises(ConfigError, match=r"^x: ") as caught:
        parse({"model": {"architecture": value}}, "x")
    assert message in str(caught.value)


def test_a_name_builds_with_what_is_supplied(example):
    config = parse({"model": {"architecture": {"name": "example", "width": 2, "hidden": [3, 4]}}}, "x")
    assert config.model.architecture == Named("example", {"width": 2.0, "hidden": (3, 4)})
    assert registry.build("model", config.model.architecture, seed=1, lr=3) is None
    with pytest.raises(ValueError, match="the model 'example' is there already"):
        registry.register("model", "example", len)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (["adamw", "sgd"], "2 links take the learning rate"),
        (["trace"], r"chain\[0\]: trace needs the option momentum"),
        ([{"name": "scale", "factor": 2}], "the last link must take the learning rate; end the chain with one of"),
        ([{"name": "adam", "betas": [0.9, 2]}], r"chain\[0\]: adam: b2 must be in \[0, 1\)"),
        ([{"name": "adam", "betas": [0.9]}], "must be a list of 2, each a number"),
        ([{"name": "adam", "lr": 1}], "comes from training.lr and the scheduler"),
        ([], "must be a list, each the name of a link"),
        ("adam", "must be a list"),
    ],
)
def test_chains_are_checked(chain, message):
    with pytest.raises(ConfigError, match=message):
        parse({"optimizer": {"chain": chain}}, "x")


# ---- contradictions ----


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training.use_amp": True, "precision.dtype": "fp32"}, "training.use_amp: true contradicts precision.dtype fp32"),
        ({"training.use_amp": False, "precision.dtype": "bf16"}, "training.use_amp: false contradicts precision.dtype bf16"),
        ({"training.use_amp": False, "precision.loss_scale": 8}, "precision.loss_scale: scales"),
        ({"training.exact": False}, "set compile: true with it"),
        ({"training.lr_mode": "finetune"}, "set model.encoder_fine_tune: true"),
        ({"training.grad_clip": 1, "optimizer.chain": [{"name": "clip_by_global_norm", "max_norm": 1}, "sgd"]}, "has clip_by_global_norm already"),
        ({"scheduler.type": "OneCycleLR", "scheduler.warmup_steps": 3}, "OneCycleLR rises by itself"),
        ({"scheduler.max_lr": 1}, "belongs to OneCycleLR"),
        ({"scheduler.min_lr": 1}, "is above training.lr"),
        ({"scheduler.type": "OneCycleLR", "scheduler.three_phase": True, "scheduler.pct_start": 0.6}, "at most 0.5"),
        ({"checkpointing.segments": "auto", "checkpointing.budget_mb": 3}, "either segments or budget_mb"),
        ({"data.labels_file": "x.csv"}, "needs data.images_dir"),
        ({"data.images_dir": "x"}, "needs data.labels_file"),
        ({"data.images_dir": "x", "data.labels_file": "y", "data.text_file": "z"}, "names the data already"),
        ({"data.balance": True, "data.shuffle": False}, "choose one"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(values, message):
    with pytest.raises(ConfigError) as caught:
        parse(nested(values), "x")
    assert message in str(caught.value)


def test_defaults_follow_what_is_given():
    assert parse(nested({"precision.dtype": "fp32"}), "x").training.use_amp is False
    assert parse(nested({"precision.dtype": "bf16"}), "x").training.use_amp is True
    clipping = {"optimizer": {"chain": [{"name": "clip_by_global_norm", "max_norm": 1}, "sgd"]}}
    assert parse(clipping, "x").training.grad_clip == 0.0


# ---- what is printed ----

CHANGED = {
    "name": "a: #b é \U0001f600", "precision.dtype": "fp32", "checkpointing.segments": "auto", "training.finetune": ["a.b", "1"],
    "optimizer.chain": [{"name": "clip_by_global_norm", "max_norm": 1}, {"name": "adam", "betas": [0.5, 0.75]}],
    "device": "cuda:1", "training.max_steps": 2**62, "training.lr": 1e-5, "data.text_file": "null", "task": "language_modelling",
}  # fmt: skip


@pytest.mark.parametrize("values", [{}, CHANGED])
def test_the_printed_config_reads_back_as_the_same(values):
    config = parse(nested(values), "x")
    text = to_yaml(config)
    assert parse(read_yaml(text, "printed")[0], "printed") == config
    assert parse(json.loads(json.dumps(to_mapping(config))), "mapping") == config
    comments = " ".join(line.strip().removeprefix("# ") for line in text.splitlines() if line.strip().startswith("#"))
    assert all(spec.meaning in comments for spec in all_keys().values())


def test_the_schema_agrees_with_the_keys():
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema and schema["$schema"].endswith("2020-12/schema")

    def leaves(part, prefix=""):
        for key, inner in part["properties"].items():
            if "additionalProperties" in inner and "properties" in inner:
                yield from leaves(inner, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", inner

    found = dict(leaves(schema))
    assert found.keys() == all_keys().keys()
    for path, spec in all_keys().items():
        assert found[path]["description"] == spec.meaning
    assert found["training.lr"] == {
        "description": all_keys()["training.lr"].meaning,
        "type": "number",
        "minimum": 0.0,
        "default": 1e-4,
    }
    assert found["training.resume_from"]["anyOf"] == [{"type": "string", "minLength": 1}, {"type": "null"}]
    assert found["checkpointing.segments"]["anyOf"][1] == {"enum": ["auto"]}


@pytest.mark.parametrize("values", [{}, CHANGED])
def test_the_schema_accepts_what_is_printed(values):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(to_mapping(parse(nested(values), "x")), json_schema())


def test_the_reference_page_is_what_the_schema_says():
    page = (ROOT / "docs" / "config.md").read_text("utf-8")
    assert page == reference(), "write it anew: python -m autograd.train.config > docs/config.md"


def test_configs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.lr = 3
