import pytest
from line import loop_table

from headrace.errors import RecipeError
from headrace.training.accelerator import make_accelerator


def test_fp16_on_a_cpu_is_refused_rather_than_trained_in_float32(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(RecipeError, match=r"fp16.*bf16"):
        make_accelerator(loop_table(mixed_precision="fp16"))


def test_each_phase_has_its_own_number_format_and_accumulation(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    for precision, parts in (("bf16", 3), ("no", 1), ("bf16", 2)):
        made = make_accelerator(loop_table(mixed_precision=precision, gradient_accumulation_steps=parts))
        assert (made.mixed_precision, made.gradient_accumulation_steps) == (precision, parts)
