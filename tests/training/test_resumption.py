import pytest

from headrace.errors import TrainingError
from headrace.training.resumption import check_recipe

BEFORE = {"seed": 1, "network": {"block_out_channels": [8, 16]}, "loop": {"learning_rate": 0.1}, "data": {"size": 32}}


def changed(**values):
    return {**BEFORE, **values}


def test_what_may_change_is_told_key_by_key():
    now = changed(loop={"learning_rate": 0.2, "compile": True})
    assert check_recipe(BEFORE, now) == [
        "loop.learning_rate was 0.1 and is 0.2",
        "loop.compile was absent and is True",
    ]
    assert check_recipe(BEFORE, changed()) == []
    assert check_recipe({}, now) == []


def test_a_checkpoint_from_before_fusion_is_of_single_pictures():
    assert check_recipe(BEFORE, changed(fusion=1, fusion_kernel=3, fusion_kind="fusebatch")) == []
    with pytest.raises(TrainingError, match="fusion was 1 and is 2"):
        check_recipe(BEFORE, changed(fusion=2))
    with pytest.raises(TrainingError, match="fusion_kernel was 3 and is 5"):
        check_recipe(changed(fusion=2, fusion_kernel=3), changed(fusion=2, fusion_kernel=5))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (changed(seed=2), "seed was 1 and is 2"),
        (
            changed(network={"block_out_channels": [8, 32]}),
            r"network.block_out_channels was \[8, 16\] and is \[8, 32\]",
        ),
        (changed(data={"size": 64}), "data.size was 32 and is 64"),
        (changed(classes=10), "classes was absent and is 10"),
        ({key: value for key, value in BEFORE.items() if key != "seed"}, "seed was 1 and is absent"),
    ],
)
def test_what_may_not_is_refused(now, words):
    with pytest.raises(TrainingError, match=words):
        check_recipe(BEFORE, now)
