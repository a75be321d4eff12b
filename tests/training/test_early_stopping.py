"""Separate networks that stop when their held-out loss no longer falls: the paper's baseline of table 3."""

import json
from itertools import pairwise

import pytest
import tiny_recipes
import torch
from line import Line, loop_table, trainer
from torch import nn

from headrace.errors import RecipeError, TrainingError
from headrace.models.pipelines.loading import load
from headrace.training.early_stopping import EarlyStopping
from headrace.training.log import TrainingLog
from headrace.training.run import RunOptions, train
from headrace.training.trainer import RunSettings, Trainer

STAGES = {"boundaries": [0.3, 0.6], "decoders": [8, 8, 8], "shared": False, "patience": 2}


class Scripted(Line):
    """Two lines; what each one's held-out loss is in a scoring is given."""

    def __init__(self, *losses, patience=2):
        super().__init__()
        self.other = nn.Parameter(torch.zeros(1))
        self.losses, self.scored = list(zip(*losses, strict=True)), 0
        self.stopping = EarlyStopping([_only(self.weight), _only(self.other)], patience)

    def forward(self, batch):
        found = super().forward(batch)["loss"]
        terms = [found] if self.weight.requires_grad else [found.detach()]
        return {"loss": sum(terms) + (self.other - 1).square().sum() * 0.1}

    stops_early = True

    @property
    def over(self):
        return self.stopping.over

    def scores(self):
        now = self.losses[self.scored]
        self.scored += 1
        return {"one": now[0], "two": now[1]}

    def judge(self, step, scores):
        return self.stopping.judge({0: scores["one"], 1: scores["two"]}, step)

    def held(self):
        return self.stopping.held()

    def export(self, folder):
        self.exported.append((self.weight.item(), self.other.item()))


def _only(parameter):
    module = nn.Module()
    module.parameter = parameter
    return module


def test_one_stops_with_its_best_weights_and_the_other_learns_on(tmp_path, capfd):
    line = Scripted((3, 2, 2.5, 2.2, 1, 1), (6, 5, 4, 3, 2, 1))
    run = trainer(tmp_path, line, steps=24, sample_every=4, ema_decay=0.5)
    run.run(tmp_path / "model")
    assert line.stopping.stops == {0: 16}
    weights, others = zip(*line.exported, strict=True)
    assert weights[1:] == (weights[1],) * 5  # from the second scoring on, its best is exported
    assert line.weight.item() == weights[1]
    assert len(set(others)) == 6
    assert "stage 0 stops at step 16: its held-out loss was 2 and is 2.2" in " ".join(capfd.readouterr().err.split())


def test_training_ends_when_all_have_stopped(tmp_path):
    line = Scripted((1, 2, 3, 4), (2, 1, 2, 3))
    progress = trainer(tmp_path, line, steps=100, sample_every=5).run(tmp_path / "model")
    assert progress.step == 20
    assert line.stopping.stops == {0: 15, 1: 20}
    assert line.exported[-1] == (line.exported[0][0], line.exported[1][1])


@pytest.mark.parametrize("at", [12, 16, 20])
def test_a_resumed_run_knows_who_stopped(tmp_path, at):
    script = (3, 2, 2.5, 2.2, 1, 1), (6, 5, 4, 3, 2, 1)
    options = {"sample_every": 4, "checkpoint_every": 4, "ema_decay": 0.5}
    whole = Scripted(*script)
    trainer(tmp_path / "whole", whole, steps=24, **options).run(tmp_path / "model")
    first, second = Scripted(*script), Scripted(*script)
    trainer(tmp_path / "two", first, steps=at, **options).run(tmp_path / "model")
    second.scored = first.scored
    # The rate's schedule is one of the steps: the comparison is of who stopped, where and with what.
    trainer(tmp_path / "two", second, resume=True, steps=24, **options).run(tmp_path / "model")
    assert second.stopping.stops == whole.stopping.stops == {0: 16}
    if at >= 16:
        assert second.weight.item() == first.weight.item()


def test_it_is_for_one_process(tmp_path):
    class Two:
        num_processes, process_index, is_main_process = 2, 0, False

    loop = loop_table()
    with pytest.raises(TrainingError, match="2 processes learn it together"):
        Trainer(Scripted((1,), (1,)), loop, RunSettings("line", tmp_path), Two())


@pytest.fixture
def data(tmp_path):
    return tiny_recipes.write_parquet(tmp_path / "pictures.parquet")


def staged(data, **phase):
    """The recipe with the same pictures held out."""
    one = tiny_recipes.diffusion(data, **{"stages": STAGES, **phase})
    table = one.data.model_copy(update={"held_out": str(data)})
    return one.model_copy(update={"data": table})


def test_a_stage_that_stopped_is_neither_evaluated_nor_moved(data):
    from headrace.training.data import load_images
    from headrace.training.objectives.diffusion import DiffusionObjective

    recipe = staged(data)
    torch.manual_seed(0)
    made = DiffusionObjective(recipe.phases["diffusion"], load_images(recipe.data), data.parent / "model")
    batch = tiny_recipes.draw(made, 3, 24) | {"uniform": torch.linspace(0.001, 0.999, 24)}
    stage = torch.from_numpy(made._stage_of(batch["uniform"], made.stages))
    whole = made(batch)
    made.stopping.judge({0: 1.0}, 1)
    made.stopping.judge({0: 2.0}, 2)
    assert made.judge(3, {"held_out_loss": 1.0, "held_out_loss_0": 2.0})
    assert made.stopping.stops == {0: 3}
    rows = []
    made.unet.encoders[0].register_forward_hook(lambda *_: rows.append(0))
    rest = made(batch)
    assert not rows
    part = made(items_of(batch, stage != 0))
    torch.testing.assert_close(rest["loss"], part["loss"] * (stage != 0).float().mean())
    assert rest["loss"] < whole["loss"]
    for one, _ in made.held():
        one.requires_grad_(False)
    everything = made(items_of(batch, stage == 0))
    everything["loss"].backward()
    assert everything["loss"].item() == 0
    assert not made.over


def items_of(batch, chosen):
    return {name: values[chosen] for name, values in batch.items()}


def test_the_record_says_when_and_what_it_cost(data, tmp_path):
    """A rate so high that losses soon rise: every network stops before the loop ends, and with its best weights."""
    loop = tiny_recipes.LOOP | {"batch_size": 4, "steps": 400, "learning_rate": 0.5, "sample_every": 2}
    folder = train(staged(data, loop=loop, sample_steps=1), RunOptions(out=tmp_path / "run"))
    found = json.loads((folder / "training.json").read_text())["phases"]["diffusion"]
    parts = found["macs"]["parts"]
    assert set(parts) == {"stage_0", "stage_1", "stage_2"}
    assert found["steps"] == max(part["steps"] for part in parts.values()) < 400
    assert min(part["steps"] for part in parts.values()) >= 2
    total = sum(3 * part["macs"] * part["share"] * part["steps"] * 4 for part in parts.values())
    assert found["macs"]["training"] == pytest.approx(total)
    log = TrainingLog(tmp_path / "run" / "diffusion" / "log.csv", 400)
    steps, spent = log.series("training_tmac")
    assert spent[-1] * 1e12 == pytest.approx(total, rel=1e-6)
    assert all(later >= earlier for earlier, later in pairwise(spent))
    assert steps[-1] == found["steps"]
    assert torch.isfinite(next(load(folder).network.parameters())).all()


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"stages": STAGES | {"shared": True}}, "for separate networks"),
        ({"stages": STAGES, "fusion": 2}, "have no fusion"),
        ({"stages": STAGES, "loop": tiny_recipes.LOOP | {"cycles": 2}}, r"have no loop\.cycles"),
        ({"stages": STAGES | {"patience": 0}}, "patience = 0"),
    ],
)
def test_where_it_does_not_fit_the_recipe_says_so(data, phase, words):
    with pytest.raises(RecipeError, match=words):
        tiny_recipes.diffusion(data, **phase)


def test_it_needs_pictures_to_score(data):
    with pytest.raises(RecipeError, match=r"Set data\.held_out|no pictures to score"):
        tiny_recipes.diffusion_objective(data, stages=STAGES)
