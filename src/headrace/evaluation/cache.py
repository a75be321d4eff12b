"""Features of data sets, kept by the content that they came from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from headrace.errors import CorruptModelError, OutputError
from headrace.evaluation.extraction import Progress, extract
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.feature_set import FeatureSet, load
from headrace.files import write_folder
from headrace.pictures.entry import PictureSource
from headrace.pictures.source import digest

_VERSION = "3"  # of decoding, scaling, class scores and of the files


def default_cache() -> Path:
    """$XDG_CACHE_HOME/headrace/features, or below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace" / "features"


class FeatureCache:
    """A folder of feature sets, each below the digest of its pictures, its extractor and the size they are brought to.

    So renamed or copied pictures are found again, and changed ones, or another extractor's weights, never are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[str] = []  # what was found unreadable, and was made anew

    def key(self, source_digest: str, extractor: FeatureExtractor, size: tuple[int, int] | None) -> str:
        """The name of a feature set's folder."""
        parts = (_VERSION, source_digest, extractor.name, extractor.digest, str(size))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def features(
        self,
        source: PictureSource,
        extractor: FeatureExtractor,
        size: tuple[int, int] | None = None,
        progress: Progress | None = None,
        source_digest: str | None = None,
    ) -> FeatureSet:
        """The features of `source`, from the cache or computed and put there. `source_digest`: where it is known.

        A damaged entry is computed again. Raises what `extract` does, and `OutputError` where nothing can be written.
        """
        folder = self._folder / self.key(source_digest or digest(source), extractor, size)
        if folder.is_dir():
            try:
                found = load(folder)
            except CorruptModelError as error:
                self.damaged.append(f"{error.problem}; they were computed again")  # and are replaced below
            else:
                if progress is not None:
                    progress(len(source))
                return found
        try:
            write_folder(folder, lambda temporary: extract(source, extractor, temporary, size, progress))
        except OutputError as error:
            raise OutputError(error.problem, "Free some space, or choose another folder with --cache") from None
        return load(folder)


def features_once(
    source: PictureSource,
    extractor: FeatureExtractor,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> FeatureSet:
    """The features of pictures that nobody will ask for again: their file is unlinked while it is mapped."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        return extract(source, extractor, Path(folder), size, progress)
