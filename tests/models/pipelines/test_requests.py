"""What each family refuses of a request, before any work: the field is named and the remedy is one that works."""

import pytest

from headrace.errors import RequestError
from headrace.request import Request

TEXT = ["sd1", "sd2", "lcm", "sdxl", "pixart", "pixart-128"]
CLASSES = ["ddpm-classes", "dit"]
UNCONDITIONAL = ["ddpm", "ddim", "ldm"]


def fitting(kind, **values):
    """A request that the family accepts."""
    if kind in TEXT:
        values = {"prompt": "red apple", **values}
    elif kind in CLASSES:
        values = {"class_label": 1, **values}
    return Request(**values)


def refusal(pipeline, request):
    with pytest.raises(RequestError) as caught:
        pipeline.check(request)
    assert pipeline.name in str(caught.value) or "class_label" in str(caught.value)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("kind", TEXT + CLASSES + UNCONDITIONAL)
def test_a_fitting_request_passes(tiny_pipeline, kind):
    tiny_pipeline(kind).check(fitting(kind))


@pytest.mark.parametrize("kind", TEXT + CLASSES + UNCONDITIONAL)
@pytest.mark.parametrize("field", ["height", "width"])
def test_sizes_must_be_multiples(tiny_pipeline, kind, field):
    pipeline = tiny_pipeline(kind)
    multiple = pipeline.size_multiple
    size = 16 * multiple + max(1, multiple // 2)
    error = refusal(pipeline, fitting(kind, **{field: size}))
    assert error.field == field
    assert str(size) in error.problem
    assert str(multiple) in error.problem
    assert error.remedy == f"Use {16 * multiple} or {17 * multiple}"


@pytest.mark.parametrize("kind", ["ddpm", "ldm", "sd1", "sdxl", "pixart"])
def test_a_non_square_size_that_fits_passes(tiny_pipeline, kind):
    pipeline = tiny_pipeline(kind)
    request = fitting(kind, height=16 * pipeline.size_multiple, width=8 * pipeline.size_multiple)
    pipeline.check(request)
    channels, height, width = pipeline.latent_shape(*pipeline.size(request))
    assert height == 2 * width
    assert channels == pipeline.network.config.in_channels


@pytest.mark.parametrize(("sizes", "field"), [({"height": 32}, "height"), ({"width": 128}, "width")])
def test_a_dit_makes_square_pictures_only(tiny_pipeline, sizes, field):
    error = refusal(tiny_pipeline("dit"), fitting("dit", **sizes))
    assert error.field == field
    assert "square" in error.problem
    tiny_pipeline("dit").check(fitting("dit", height=32, width=32))


@pytest.mark.parametrize("kind", UNCONDITIONAL)
@pytest.mark.parametrize("values", [{"prompt": "red"}, {"negative_prompt": "red"}, {"class_label": 0}])
def test_unconditional_models_take_no_condition(tiny_pipeline, kind, values):
    error = refusal(tiny_pipeline(kind), Request(**values))
    assert error.field == ("class_label" if "class_label" in values else "prompt")


@pytest.mark.parametrize("kind", TEXT)
def test_text_models_need_a_prompt_and_no_class(tiny_pipeline, kind):
    pipeline = tiny_pipeline(kind)
    assert refusal(pipeline, Request()).field == "prompt"
    assert refusal(pipeline, Request(negative_prompt="blurry")).field == "prompt"
    assert refusal(pipeline, Request(prompt="red", class_label=1)).field == "class_label"


@pytest.mark.parametrize(("kind", "classes"), [("ddpm-classes", 5), ("dit", 1000)])
def test_class_models_need_a_class_in_range_and_no_prompt(tiny_pipeline, kind, classes):
    pipeline = tiny_pipeline(kind)
    pipeline.check(Request(class_label=classes - 1))
    too_large = refusal(pipeline, Request(class_label=classes))
    assert too_large.field == "class_label"
    assert str(classes) in too_large.problem
    assert too_large.remedy == f"Give 0 to {classes - 1}"
    assert refusal(pipeline, Request()).field == "class_label"
    assert refusal(pipeline, Request(class_label=1, prompt="red")).field == "prompt"


@pytest.mark.parametrize(
    ("kind", "default"),
    [("sd1", 7.5), ("sdxl", 5.0), ("pixart", 4.5), ("dit", 4.0), ("lcm", 1.0), ("ddpm", 1.0), ("ddpm-classes", 1.0)],
)
def test_guidance_scales(tiny_pipeline, kind, default):
    """As in diffusers there is no guidance at 1 and below, and a distilled network evaluates one branch."""
    pipeline = tiny_pipeline(kind)
    assert pipeline.guidance(fitting(kind)) == default
    guided = default != 1.0
    assert pipeline.guidance(fitting(kind, guidance_scale=3.5)) == (3.5 if guided else 1.0)
    assert pipeline.guidance(fitting(kind, guidance_scale=0.5)) == 1.0
    (conditioning,) = pipeline.encode([fitting(kind)])
    assert (conditioning.negative is not None) == guided
    if guided:
        shapes = {name: tensor.shape for name, tensor in conditioning.positive.items()}
        assert {name: tensor.shape for name, tensor in conditioning.negative.items()} == shapes


def test_defaults_are_those_of_diffusers(tiny_pipeline):
    import inspect

    for kind in ("sd1", "sd2", "lcm", "sdxl", "pixart", "dit"):
        pipeline = tiny_pipeline(kind)
        call = inspect.signature(type(pipeline.components).__call__)
        assert pipeline.default_guidance == call.parameters["guidance_scale"].default


@pytest.mark.parametrize("kind", ["ddpm", "ddpm-classes", "ldm"])
def test_guidance_is_refused_where_there_is_no_unconditional_branch(tiny_pipeline, kind):
    error = refusal(tiny_pipeline(kind), fitting(kind, guidance_scale=4.0))
    assert error.field == "guidance_scale"
    tiny_pipeline(kind).check(fitting(kind, guidance_scale=1.0))


def test_a_distilled_network_is_told_its_scale_and_evaluates_one_branch(tiny_pipeline):
    request = fitting("lcm", guidance_scale=4.0)
    pipeline = tiny_pipeline("lcm")
    pipeline.check(request)
    assert pipeline.guidance(request) == 1.0
    assert pipeline.guidance_scale(request) == 4.0
