"""Which extractors there are, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import HeadraceError
from headrace.evaluation.extractors.classifier import ClassifierFeatures, embedded_classifiers, is_classifier
from headrace.evaluation.extractors.colour_gradients import ColourGradients
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.extractors.inception import Inception
from headrace.evaluation.extractors.transformers_folder import Clip, Dino

_SHORT = {"inception": Inception.name, "fid": Inception.name, "dino": Dino.name}


@dataclass(frozen=True)
class ExtractorOptions:
    """`names`: which extractors (none: all whose files are given, or else the one without weights). Paths: their files.

    A name can be the path of a folder that `headrace train` made of a classifier. `device`: where networks run.
    """

    names: Sequence[str] = ()
    inception: Path | None = None
    clip: Path | None = None
    dino: Path | None = None
    device: str = "cpu"


def build_extractors(options: ExtractorOptions) -> list[FeatureExtractor]:
    """The extractors asked for, in that order. Raises `HeadraceError`: unknown, or without its file."""
    files = {Inception.name: options.inception, Clip.name: options.clip, Dino.name: options.dino}
    given = [name for name, path in files.items() if path is not None]
    names = list(dict.fromkeys(_full_name(name) for name in options.names)) or given or [ColourGradients.name]
    folders = {name: Path(name).expanduser() for name in names}
    classifiers = {name: path for name, path in folders.items() if is_classifier(path / "config.json")}
    classifiers |= embedded_classifiers()
    for name in names:  # before anything is loaded
        _check(name, files, classifiers)
    return [_build(name, options, classifiers) for name in names]


def _full_name(name: str) -> str:
    return _SHORT.get(name, name)


def _check(name: str, files: dict[str, Path | None], classifiers: dict[str, Path]) -> None:
    if name in files:
        if files[name] is None:
            option = {
                Inception.name: "--inception-weights FILE",
                Clip.name: "--clip FOLDER",
                Dino.name: "--dino FOLDER",
            }
            raise HeadraceError(f"the extractor {name!r} needs weights, and none were given", f"Add {option[name]}")
    elif name not in classifiers and name != ColourGradients.name:
        embedded = embedded_classifiers()
        known = [ColourGradients.name, *files, *_SHORT, *embedded]
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        suggestion = f"Did you mean {_full_name(near[0])}? " if near else ""
        raise HeadraceError(
            f"there is no extractor {name!r}",
            f"{suggestion}There is {ColourGradients.name} (no weights), {', '.join(files)} (each with its files); "
            f"embedded: {', '.join(embedded) or 'none'}; or the folder of a trained classifier",
        )


def _build(name: str, options: ExtractorOptions, classifiers: dict[str, Path]) -> FeatureExtractor:
    if name == ColourGradients.name:
        return ColourGradients()
    if name in classifiers:
        return ClassifierFeatures(classifiers[name], options.device)
    path = {Inception.name: options.inception, Clip.name: options.clip, Dino.name: options.dino}[name]
    assert path is not None  # `_check` saw to it
    makers: dict[str, Callable[[Path, str], FeatureExtractor]] = {
        Inception.name: Inception,
        Clip.name: Clip,
        Dino.name: Dino,
    }
    return makers[name](path.expanduser(), options.device)
