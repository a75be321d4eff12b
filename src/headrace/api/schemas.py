"""What `/v1/images/generations` takes and gives: OpenAI's fields, and Headrace's own.

The names and values are those of OpenAI's client (`openai.types.ImageGenerateParams`, `ImagesResponse`,
`ImageGenPartialImageEvent`, `ImageGenCompletedEvent`), so that it works unchanged.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace.request import MAX_PROMPT_CHARACTERS, MAX_STEPS
from headrace.service.wish import MAX_PREVIEWS

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
Text = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[str, Field(max_length=200)]


class ImageRequest(BaseModel):
    """A request for pictures. What is null or left out is the model's, or the acceleration's, own default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Text | None = Field(
        None,
        description="what to show. Models of classes: the number or name of one, in place of class_label. Models "
        'without conditioning: left out or ""',
    )
    model: Name | None = Field(None, description="name of the served model, see /v1/models")
    n: Annotated[int, Field(ge=1)] | None = Field(None, description="pictures; the operator limits how many")
    size: Annotated[str, Field(pattern=r"^(auto|[0-9]{1,5}[xX][0-9]{1,5})$")] | None = Field(
        None, description='"WIDTHxHEIGHT" in pixels, or "auto"'
    )
    quality: Quality | None = Field(
        None, description="a tier, for which the operator named an acceleration; a tier without one is plain sampling"
    )
    response_format: Literal["b64_json", "url"] | None = Field(None, description="default: b64_json")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="default: png")
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="quality of JPEG and WebP, percent; default: 100"
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None, description="transparent is refused: the models make opaque pictures"
    )
    moderation: Literal["auto", "low"] | None = Field(None, description="without effect")
    style: Literal["vivid", "natural"] | None = Field(None, description="without effect")
    user: Name | None = Field(None, description="who asks; logged as a salted hash")
    safety_identifier: Name | None = Field(None, description="as `user`, before which it goes")
    stream: bool | None = Field(None, description="events as they come, in place of one answer")
    partial_images: Annotated[int, Field(ge=0, le=MAX_PREVIEWS)] | None = Field(
        None, description="of each picture, with stream: previews on the way"
    )
    # Headrace's own, which OpenAI's client sends with `extra_body`.
    class_label: Annotated[int, Field(ge=0)] | None = Field(None, description="models of classes: which one")
    negative_prompt: Text | None = Field(None, description="what guidance moves away from")
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(None, description="inference steps")
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="1 is off"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="of the first picture, the next have seed + 1, ...; default: drawn, and told in the answer"
    )
    solver: Name | None = Field(None, description="such as ddim, dpm++2m, euler-a")
    priority: Annotated[int, Field(ge=-100, le=100)] | None = Field(None, description="larger goes first; default: 0")
    timeout_ms: Annotated[int, Field(ge=1, le=86_400_000)] | None = Field(
        None, description="time in which all pictures must be there; refused at once where they cannot be"
    )
    acceleration: Name | None = Field(
        None, description='name of one of the model\'s, or "none"; goes before what `quality` stands for'
    )


class PictureTimes(BaseModel):
    """Milliseconds: until it got a slot, of its rows, of its decoding, of its compression; `total` since it came."""

    queued: float | None
    denoising: float | None
    decoding: float | None
    encoding: float | None
    total: float


class PictureSettings(BaseModel):
    """How a picture was really made.

    `picture`: which of the request's. `rows`: evaluations of its plan. `attempts`: processes of the engine that had
    it. `unguided_rows` and others that the engine tells of come as they are.
    """

    model_config = ConfigDict(extra="allow")

    picture: int
    model: str
    seed: int
    steps: int
    solver: str | None
    guidance_scale: float | None
    height: int
    width: int
    acceleration: str | None
    rows: int
    attempts: int
    times_ms: PictureTimes


class Picture(BaseModel):
    """One picture: `b64_json` or `url`."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None
    headrace: PictureSettings


class TokenDetails(BaseModel):
    """Of what the tokens are."""

    text_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """`output_tokens`: rows of the plans, which are evaluations of the network; prompts are not counted, 0."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class ImagesBody(BaseModel):
    """The answer: pictures in the order of their seeds."""

    created: int
    data: list[Picture]
    background: Literal["opaque"] = "opaque"
    output_format: str
    quality: str | None
    size: str
    usage: Usage


class ModelAcceleration(BaseModel):
    """One of the accelerations that requests may name; `speedup` and `quality` as its artefact measured them."""

    name: str
    techniques: str
    speedup: float | None
    quality: float | None
    metric: str | None
    defaults: dict[str, object]


class ModelSettings(BaseModel):
    """What requests may ask of the model, and what they get where they leave it open. `sizes` are [height, width]."""

    family: str
    conditioning: str | None
    classes: int
    class_names: list[str]
    guided: bool
    default_steps: int
    default_solver: str
    default_guidance: float
    default_size: tuple[int, int]
    size_multiple: int
    max_pixels: int
    max_pictures: int
    max_steps: int
    solvers: list[str]
    accelerations: list[ModelAcceleration]
    default_acceleration: str | None
    qualities: dict[str, str]
    fingerprint: str
    device: str
    dtype: str


class ModelBody(BaseModel):
    """A model, as OpenAI's client knows it; under `headrace` what it can do."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "headrace"
    headrace: ModelSettings


class ModelList(BaseModel):
    """The models, of which there is one."""

    object: Literal["list"] = "list"
    data: list[ModelBody]
