import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.errors import RequestError
from headrace.request import MAX_STEPS, Request


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 100_000}, "steps"),
        ({"steps": "20"}, "steps"),
        ({"steps": True}, "steps"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"guidance_scale": True}, "guidance_scale"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  \n"}, "prompt"),
        ({"prompt": "x" * 100_000}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"height": 0}, "height"),
        ({"width": 10**9}, "width"),
        ({"class_label": -1}, "class_label"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stepz": 20}, "stepz"),
        ([1, 2], "request"),
        ("a prompt", "request"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_a_remedy(values, field):
    with pytest.raises(RequestError) as caught:
        Request.parse(values)
    assert caught.value.field == field
    assert field in caught.value.problem
    assert caught.value.remedy
    assert len(str(caught.value)) < 400, "a long value is shortened"
    assert "Value error" not in str(caught.value)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt": st.text(min_size=1, max_size=50).filter(str.strip),
            "steps": st.integers(1, MAX_STEPS),
            "guidance_scale": st.one_of(st.integers(0, 100), st.floats(0, 100)),
            "seed": st.integers(0, 2**63 - 1),
            "height": st.integers(8, 8192),
        },
    )
)
def test_good_values_are_kept_as_given(values):
    request = Request.parse(values)
    for name, value in values.items():
        assert getattr(request, name) == value


def test_a_request_never_changes():
    request = Request(prompt="a")
    with pytest.raises(ValidationError):
        request.steps = 3
