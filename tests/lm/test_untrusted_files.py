"""Files of strangers are data: nothing that they hold is run, and what is no data is refused."""

import io
import json
import os
import pickle
import shutil
from contextlib import suppress

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from lm.data import load_examples, load_rows
from lm.loading import load_config, load_model, load_tokenizer, load_trained
from lm.options import load_settings
from lm.reference_cache import ReferenceCache
from lm.settings import DataConfig, ModelConfig
from lm.tokenizers import toy_tokenizer
from lm.trainer import RatioTrainer
from tests.lm.toy_examples import toy_examples
from tests.lm.toy_training import make_trainer


class Bomb:
    """What makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def plain_pickle(bomb):
    return pickle.dumps(bomb, protocol=2)  # torch's own: of others it warns


def torch_file(bomb):
    file = io.BytesIO()
    torch.save({"state": bomb}, file)
    return file.getvalue()


@pytest.fixture
def bomb(tmp_path):
    """Return a bomb that must not have gone off when the test ends."""
    bomb = Bomb(tmp_path / "went-off")
    yield bomb
    assert not bomb.mark.exists()


def code_of(bomb):
    """Return Python that does what the bomb does when it is imported."""
    return f"import os\nos.mkdir({str(bomb.mark)!r})\n"


@pytest.mark.parametrize("write", [plain_pickle, torch_file])
def test_the_bomb_goes_off_where_it_is_trusted(tmp_path, write):
    bomb = Bomb(tmp_path / "went-off")
    with io.BytesIO(write(bomb)) as file:
        torch.load(file, weights_only=False) if write is torch_file else pickle.load(file)
    assert bomb.mark.exists()


@pytest.fixture
def model_folder(tiny_model, tmp_path):
    """Return the folder of a sound model and its tokenizer."""
    tiny_model("qwen2").save_pretrained(tmp_path / "model")
    toy_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(path, **values):
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# Models


@pytest.mark.parametrize("write", [plain_pickle, torch_file])
def test_pickled_weights_are_refused(model_folder, toy, bomb, write):
    (model_folder / "model.safetensors").unlink()
    (model_folder / "pytorch_model.bin").write_bytes(write(bomb))
    with pytest.raises(OSError, match=r"(?i)safetensors"):
        load_model(ModelConfig(model=str(model_folder)), toy)


def test_pickled_weights_of_an_adapter_are_refused(model_folder, tmp_path, toy, bomb):
    adapter = tmp_path / "adapter"
    settings = ModelConfig(model=str(model_folder), lora_rank=2)
    load_model(settings, toy).save_pretrained(adapter)
    load_trained(adapter, settings, toy)  # a sound one
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(torch_file(bomb))
    with pytest.raises(ValueError, match=r"an adapter must be in adapter_model\.safetensors, got .*adapter, which"):
        load_trained(adapter, settings, toy)


@pytest.mark.parametrize("kind", ["unheard-of", "qwen2"])
def test_code_in_the_folder_of_a_model_is_not_run(model_folder, toy, bomb, kind):
    (model_folder / "own.py").write_text(code_of(bomb))
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    change(model_folder / "config.json", model_type=kind, auto_map=names, architectures=["OwnModel"])
    settings = ModelConfig(model=str(model_folder))
    if kind == "qwen2":  # known without its code
        load_model(settings, toy)
        return
    with pytest.raises((OSError, ValueError), match=r"unheard-of|custom code|trust_remote_code"):
        load_config(settings, toy)


@pytest.mark.parametrize("kind", ["OwnTokenizer", "PreTrainedTokenizerFast"])
def test_code_in_the_folder_of_a_tokenizer_is_not_run(model_folder, bomb, kind):
    (model_folder / "own.py").write_text(code_of(bomb))
    names = {"AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"]}
    change(model_folder / "tokenizer_config.json", tokenizer_class=kind, auto_map=names)
    with suppress(OSError, ValueError):  # refused, or read without its code
        load_tokenizer(ModelConfig(model=str(model_folder)))


def test_a_chat_template_reaches_nothing_but_the_messages(tmp_path, bomb):
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = f"{{{{ cycler.__init__.__globals__.os.mkdir({str(bomb.mark)!r}) }}}}"
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    row = {name: [{"role": role, "content": name}] for name, role in roles.items()}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(ValueError, match="unsafe"):
        load_examples(path, tokenizer, DataConfig())


def test_the_name_of_a_chat_template_leads_nowhere(model_folder, tmp_path):
    tokenizer = load_tokenizer(ModelConfig(model=str(model_folder)))
    tokenizer.chat_template = {"default": "x", "../../outside": "y"}
    with pytest.raises(ValueError, match="Invalid chat template name"):
        tokenizer.save_pretrained(tmp_path / "run" / "saved")
    assert list(tmp_path.rglob("outside*")) == []


# Checkpoints


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Return the folder of a run with a checkpoint after its first step."""
    folder = tmp_path_factory.mktemp("run")
    make_trainer(folder, toy_examples(8), save_strategy="steps", save_steps=1).train()
    return folder


def resumed(folder) -> RatioTrainer:
    """Go on with a run for a second step, and return its trainer."""
    trainer = make_trainer(folder, toy_examples(8), max_steps=2)
    trainer.train(resume_from_checkpoint=True)
    return trainer


@pytest.mark.parametrize("write", [plain_pickle, torch_file])
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin"])
def test_no_file_of_a_checkpoint_is_run(run_folder, tmp_path, bomb, name, write):
    shutil.copytree(run_folder, tmp_path / "run")
    file = tmp_path / "run" / "checkpoint-1" / name
    assert file.is_file() or name == "pytorch_model.bin"
    file.write_bytes(write(bomb))
    if name == "pytorch_model.bin":
        file.with_name("model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"must hold tensors and numbers alone, got others in .*checkpoint-1, which"):
        resumed(tmp_path / "run")


def test_a_sound_checkpoint_is_gone_on_from_and_the_settings_in_it_are_not_read(run_folder, tmp_path, bomb):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "checkpoint-1" / "training_args.bin").write_bytes(torch_file(bomb))
    assert resumed(tmp_path / "run").state.global_step == 2


# Settings and data


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.mkdir ['{mark}']",
        "model: !!python/object/new:os.mkdir ['{mark}']",
        "model: !!python/name:os.mkdir",
        "!!python/object/apply:os.mkdir ['{mark}']",
    ],
)
def test_yaml_makes_no_objects(tmp_path, bomb, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text.format(mark=bomb.mark))
    with pytest.raises(ValueError, match="must be a YAML file in UTF-8, got: could not determine a constructor"):
        load_settings(path)
    value = text.format(mark=bomb.mark).removeprefix("model: ")
    assert load_settings(None, ["--model", value]).model.model == value  # on the command line it is text


def test_data_are_text(tmp_path, bomb):
    text = f"__import__('os').mkdir({str(bomb.mark)!r})"
    row = {"prompt": text, "completion": f"{{{{ {text} }}}}", "label": True}
    for name, content in (
        ("rows.jsonl", json.dumps(row)),
        ("rows.csv", f'prompt,completion,label\n"{row["prompt"]}","{row["completion"]}",true\n'),
    ):
        (tmp_path / name).write_text(content)
        assert load_rows(tmp_path / name) == [row]


def pickled_column(bomb, values, kind):
    """Return a column whose Arrow type is a pickle, as early releases of pyarrow ran when they read one."""
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": plain_pickle(bomb),
    }
    return pa.field("column", kind, metadata=metadata), pa.array(values, kind)


# Early releases of pyarrow that refuse such a type warn as well.
@pytest.mark.filterwarnings("ignore:.*PyExtensionType:Warning")
def test_types_in_parquet_are_not_unpickled(tmp_path, bomb):
    field, column = pickled_column(bomb, ["four"], pa.string())
    fields = [field.with_name("completion"), pa.field("prompt", pa.string()), pa.field("label", pa.bool_())]
    table = pa.Table.from_arrays([column, pa.array(["2 + 2 ="]), pa.array([True])], schema=pa.schema(fields))
    parquet.write_table(table, tmp_path / "rows.parquet")
    try:
        rows = load_rows(tmp_path / "rows.parquet")
    except ValueError:
        return
    assert rows == [{"completion": "four", "prompt": "2 + 2 =", "label": True}]


def test_cached_log_probabilities_are_not_unpickled(tmp_path, bomb):
    cache = ReferenceCache(tmp_path, {"weights": "0"})
    cache.folder.mkdir()
    field, column = pickled_column(bomb, [b"0123456789abcdef"], pa.binary(16))
    schema = pa.schema([field.with_name("sequence"), pa.field("log_prob", pa.float32())])
    table = pa.Table.from_arrays([column, pa.array([-1.5], pa.float32())], schema=schema)
    parquet.write_table(table, cache.folder / "values.parquet")
    with pytest.raises(ValueError, match=r"delete .*values\.parquet"):
        cache.lookup([b"0123456789abcdef"])
