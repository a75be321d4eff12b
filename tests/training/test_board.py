import importlib.util

import pytest
from line import Line, trainer

from headrace.errors import TrainingError
from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train

INSTALLED = importlib.util.find_spec("tensorboard") is not None


@pytest.mark.skipif(not INSTALLED, reason="the extra `tensorboard` is not installed")
def test_tensorboard_has_the_curves_and_the_samples(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trainer(tmp_path, Line(), steps=4, sample_every=2, tensorboard=True)
    run.run(tmp_path / "model")
    trainer(tmp_path, Line(), resume=True, steps=8, sample_every=8, tensorboard=True).run(tmp_path / "model")
    events = EventAccumulator(str(tmp_path / "line" / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in points] == list(range(1, 9))
    assert [value for _, value in points][:4] == pytest.approx(run.log.series("loss")[1])
    assert [event.step for event in events.Images("samples")] == [2, 4, 8]


def test_without_the_extra_it_is_named_before_any_work(tmp_path, tiny_recipe, monkeypatch):
    found = importlib.util.find_spec
    missing = {"tensorboard"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in missing else found(name, *rest)
    )
    values = tiny_recipe.model_dump(mode="json")
    values["data"]["path"] = "nowhere.parquet"
    with pytest.raises(TrainingError, match=r"headrace\[tensorboard\]"):
        train(parse_recipe(values), RunOptions(out=tmp_path, tensorboard=True))
