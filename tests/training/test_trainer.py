import time

import pytest
import torch
from line import Line, losses, trainer
from PIL import Image
from torch import nn

from headrace.errors import TrainingError
from headrace.training.checkpoint import checkpoints


def test_it_learns_logs_plots_and_exports_the_averaged_weights(tmp_path):
    line = Line()
    trainer(tmp_path, line, steps=200, ema_decay=0.5, sample_every=100).run(tmp_path / "model")
    assert line.weight.item() == pytest.approx(2.0, abs=0.1)
    assert line.exported[-1] == pytest.approx(2.0, abs=0.1)
    assert line.exported[-1] != line.weight.item()
    steps = losses(tmp_path / "line")
    assert len(steps) == 200
    assert float(steps[-1][1]) < float(steps[0][1])
    assert Image.open(tmp_path / "line" / "loss.png").width > 300
    assert sorted(path.name for path in (tmp_path / "line" / "samples").iterdir())[0] == "step-00000100.png"


def test_only_the_last_checkpoints_are_kept(tmp_path):
    trainer(tmp_path, Line(), steps=20, checkpoint_every=5, keep_checkpoints=2).run(tmp_path / "model")
    assert [path.name for path in checkpoints(tmp_path / "line" / "checkpoints")] == ["step-00000015", "step-00000020"]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_nan_stops_with_the_step_and_the_last_good_checkpoint(tmp_path, parts):
    run = trainer(tmp_path, Line(broken_at=7 * parts), steps=20, gradient_accumulation_steps=parts)
    with pytest.raises(TrainingError, match=r"not finite at step 7; .*step-00000004"):
        run.run(tmp_path / "model")
    trainer(tmp_path, Line(), resume=True, steps=20, gradient_accumulation_steps=parts).run(tmp_path / "model")
    assert len(losses(tmp_path / "line")) == 20


@pytest.mark.parametrize("parts", [1, 3])
def test_a_resumed_run_repeats_the_losses_of_an_unbroken_one(tmp_path, parts):
    """Dropout, which takes its masks from torch's own generator, included; buffers come back too."""
    split = {"steps": 20, "gradient_accumulation_steps": parts}
    whole, resumed = Line(), Line()
    trainer(tmp_path / "whole", whole, **split).run(tmp_path / "model")
    with pytest.raises(TrainingError):
        trainer(tmp_path / "broken", Line(broken_at=11 * parts), **split).run(tmp_path / "model")
    trainer(tmp_path / "broken", resumed, resume=True, **split).run(tmp_path / "model")
    assert losses(tmp_path / "broken" / "line") == losses(tmp_path / "whole" / "line")
    assert torch.equal(resumed.weight, whole.weight)
    assert resumed.seen.item() == whole.seen.item() == 20 * 2 * parts


def test_the_clock_ends_a_run_and_brings_the_rate_down(tmp_path):
    run = trainer(tmp_path, Line(), steps=10**9, seconds=1.0, sample_every=10**9, checkpoint_every=10**9)
    began = time.monotonic()
    run.run(tmp_path / "model")
    assert time.monotonic() - began < 10
    assert 1.0 <= run.progress.seconds < 2.0
    assert run.weights.optimizer.param_groups[0]["lr"] < 0.005


def test_the_rate_counts_every_picture_of_a_step_and_no_pauses(tmp_path, monkeypatch):
    """A clock that advances by a second a step, and by 100 for each sample: 12 pictures a second throughout."""
    now, rates = [0.0], []
    line = Line()
    run = trainer(tmp_path, line, steps=8, gradient_accumulation_steps=6, sample_every=3, checkpoint_every=5)
    monkeypatch.setattr("headrace.training.trainer.time.monotonic", lambda: now[0])
    run._started, run._window = 0.0, (0, 0.0)
    step, grid = run.step, line.sample_grid

    def slow_step():
        now[0] += 1.0
        step()

    def slow_grid():
        now[0] += 100.0
        return grid()

    monkeypatch.setattr(run, "step", slow_step)
    monkeypatch.setattr(line, "sample_grid", slow_grid)
    monkeypatch.setattr(run.display, "update", lambda step, loss, fraction, rate: rates.append(rate))
    run.run(tmp_path / "model")
    assert rates == pytest.approx([12.0] * 4)


def test_a_new_run_does_not_bury_an_older_one(tmp_path):
    trainer(tmp_path, Line(), steps=4).run(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"holds the checkpoints of a run.*--resume"):
        trainer(tmp_path, Line(), steps=4)


def test_a_checkpoint_of_another_network_names_the_first_difference(tmp_path):
    trainer(tmp_path, Line(), steps=4).run(tmp_path / "model")
    other = Line()
    other.weight = nn.Parameter(torch.zeros(3))
    with pytest.raises(TrainingError, match=r"another network: weight is \[3\] in the recipe and \[1\] in it"):
        trainer(tmp_path, other, resume=True, steps=8)
    wider = Line()
    wider.bias = nn.Parameter(torch.zeros(2))
    with pytest.raises(TrainingError, match=r"bias is \[2\] in the recipe and absent in it"):
        trainer(tmp_path, wider, resume=True, steps=8)


def test_another_recipe_is_refused_or_told(tmp_path, capfd):
    trainer(tmp_path, Line(), steps=4, recipe={"network": {"width": 8}, "flip": False}).run(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"another recipe: network\.width was 8 and is 16"):
        trainer(tmp_path, Line(), resume=True, steps=8, recipe={"network": {"width": 16}, "flip": False})
    with pytest.raises(TrainingError, match="images_a_step was 2 and is 4"):
        trainer(tmp_path, Line(), resume=True, steps=8, batch_size=4, recipe={"network": {"width": 8}, "flip": False})
    capfd.readouterr()
    trainer(tmp_path, Line(), resume=True, steps=8, recipe={"network": {"width": 8}, "flip": True})
    assert "flip was False and is True" in capfd.readouterr().err


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capfd):
    trainer(tmp_path, Line(), steps=8, checkpoint_every=2, keep_checkpoints=3).run(tmp_path / "model")
    complete = losses(tmp_path / "line")
    _, middle, newest = checkpoints(tmp_path / "line" / "checkpoints")
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    (middle / "progress.json").unlink()
    capfd.readouterr()
    run = trainer(tmp_path, Line(), resume=True, steps=8)
    told = " ".join(capfd.readouterr().err.split())
    assert "step-00000008' is damaged" in told
    assert "step-00000006' is damaged" in told
    assert run.progress.step == 4
    run.run(tmp_path / "model")
    assert losses(tmp_path / "line") == complete
    for path in checkpoints(tmp_path / "line" / "checkpoints"):
        (path / "average.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"every checkpoint .* is damaged"):
        trainer(tmp_path, Line(), resume=True, steps=8)
