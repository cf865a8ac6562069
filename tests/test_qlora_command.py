"""`coursepkg finetune`: what it writes and refuses, and that two processes learn what one learns."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from coursepkg import cli, courselm, evaluation, load_model, lora_model
from coursepkg.evaluation import Exam
from coursepkg.qlora import command
from coursepkg.qlora.record import RECORD

ROOT = Path(__file__).resolve().parents[1]
LINES = [{"text": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(1, 17)]


# On GPUs `accelerate launch` starts processes as torchrun does; on CPUs it would want mpirun.
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def run_python(*arguments):
    """A Python process on the CPU that has to end well."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)) + "\n\n", encoding="utf-8")
    return path


def finetune(*arguments):
    return CliRunner().invoke(cli.app, ["finetune", *map(str, arguments)])


def test_it_writes_an_adapter_and_what_the_run_was(data, tmp_path):
    out = tmp_path / "adapter"
    given = ("--data", data, "--epochs", 2, "--batch", 4, "--rank", 2)
    outcome = finetune(out, *given)
    assert outcome.exit_code == 0, outcome.output
    written = json.loads((out / RECORD).read_text(encoding="utf-8"))
    assert len(written["losses"]) == 8 and written["examples"].startswith("16, sha256")
    assert written["settings"]["lora"]["rank"] == 2 and written["settings"]["weights"] == "nf4+dq"
    model = load_model(dtype=torch.float32)[0]
    assert len(lora_model.load(model, out)) == 42
    other = finetune(out, *given, "--seed", 1)
    assert other.exit_code == 1 and "holds another run" in other.stderr


def test_other_examples_do_not_go_on(data, tmp_path):
    given = ("--data", data, "--epochs", 1, "--rank", 2)
    assert finetune(tmp_path / "out", *given).exit_code == 0
    before = (tmp_path / "out" / lora_model.TENSORS).read_bytes()
    data.write_text(data.read_text(encoding="utf-8").replace("32", "33"), encoding="utf-8")
    outcome = finetune(tmp_path / "out", *given)
    assert outcome.exit_code == 1 and "holds another run" in outcome.stderr
    (tmp_path / "out" / RECORD).unlink()
    assert finetune(tmp_path / "out", *given).exit_code == 1
    assert (tmp_path / "out" / lora_model.TENSORS).read_bytes() == before


def test_a_line_of_json_may_hold_any_sign(tmp_path):
    text = json.dumps({"text": "one\u2028two\u0085three", "answer": "ja"}, ensure_ascii=False)
    (tmp_path / "bom.jsonl").write_text("\ufeff" + text + "\r\n", encoding="utf-8")
    (document,) = command.read(tmp_path / "bom.jsonl")
    assert document.text == "one\u2028two\u0085three"


def test_handbooks_bring_their_rows_along(tmp_path):
    outcome = finetune(tmp_path / "law", "--client", "law", "--epochs", 1, "--library", "coursepkg")
    assert outcome.exit_code == 0, outcome.output
    assert "their rows are trained, too" in outcome.output
    assert len(lora_model.read_config(tmp_path / "law").tokens) > 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"answer": "b"}', 'line 2: not an object with "text"'),
        ('{"text": 3}', "line 1"),
        ("[1]", "line 1"),
        ("no json", "line 1"),
        ("\n", "holds no examples"),
    ],
)
def test_examples_that_cannot_be_used_are_named(tmp_path, text, message):
    (tmp_path / "bad.jsonl").write_text(text, encoding="utf-8")
    outcome = finetune(tmp_path / "out", "--data", tmp_path / "bad.jsonl")
    assert outcome.exit_code == 1 and message in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_what_to_teach_has_to_be_said_once(data, tmp_path):
    for given in ((), ("--client", "law", "--data", data)):
        outcome = finetune(tmp_path / "out", *given)
        assert outcome.exit_code == 1 and "either --client or --data" in outcome.stderr


def test_two_processes_learn_what_one_learns(data, tmp_path):
    """Batches of 4 in two processes are a batch of 8 in one: gradients are added up in another order, and so rounded otherwise."""
    given = [
        "--data",
        str(data),
        "--epochs",
        "2",
        "--weights",
        "16 bit",
        "--library",
        "coursepkg",
        "--rank",
        "2",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    run_python(*LAUNCH, "-m", "coursepkg", "finetune", str(two), *given, "--batch", "4")
    assert finetune(one, *given, "--batch", "8").exit_code == 0
    losses = [json.loads((each / RECORD).read_text(encoding="utf-8"))["losses"] for each in (one, two)]
    assert len(losses[0]) == len(losses[1]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    tensors = [load_file(each / lora_model.TENSORS) for each in (one, two)]
    assert all(torch.allclose(tensors[0][name], tensors[1][name], atol=1e-4) for name in tensors[0])


HELD_OUT = """
import sys
from coursepkg import courselm, qlora
from coursepkg.lora import LoraConfig

settings = qlora.Settings(lora=LoraConfig(rank=2), weights="16 bit", library="coursepkg", length=64, batch=int(sys.argv[2]))
lessons = next(courselm.lessons("law", 1))
held = [each for each in lessons if each.answer][:2] + [each for each in lessons if not each.answer][:1]
model, tokenizer = qlora.load("course-lm", settings)
qlora.finetune(model, tokenizer, held * 4, settings, sys.argv[1], held, progress=False)
"""


def test_two_processes_see_the_same_held_out_loss(tmp_path):
    """Three rows of unlike length in two processes: one of them reads a row twice, which must not count."""
    script = tmp_path / "held_out.py"
    script.write_text(HELD_OUT, encoding="utf-8")
    looks = []
    for name, how, batch in (("one", (), "4"), ("two", LAUNCH, "2")):
        run_python(*how, str(script), str(tmp_path / name), batch)
        looks.append(json.loads((tmp_path / name / RECORD).read_text(encoding="utf-8"))["evaluations"])
    assert [look["step"] for look in looks[0]] == [look["step"] for look in looks[1]] == [3]
    assert looks[1][0]["loss"] == pytest.approx(looks[0][0]["loss"], rel=1e-4)


def test_the_configuration_for_several_gpus_is_one_that_accelerate_reads(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    path = files("coursepkg.qlora").joinpath("fsdp.yaml")
    config = load_config_from_file(str(path))
    assert config.distributed_type.value == "FSDP" and config.num_processes == 2
    assert config.fsdp_config == yaml.safe_load(path.read_text(encoding="utf-8"))["fsdp_config"]


@pytest.mark.parametrize("client", ["medical", "support"])
def test_adapters_that_ship_know_their_handbook(client):
    model, tokenizer = load_model(dtype=torch.float32)
    lora_model.load(model, courselm.adapter(client))
    found = evaluation.take(model, tokenizer, Exam(client, courselm.exam(client).questions))
    assert found.accuracy.value >= 0.85
    with pytest.raises(ValueError, match="no adapter for 'law' ships"):
        courselm.adapter("law")
