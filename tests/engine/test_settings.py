import pytest

from headrace.engine import EngineSettings
from headrace.errors import HeadraceError


@pytest.mark.parametrize("changes", [{"slots": 0}, {"max_rows": -1}, {"decode_batch": 1.5}, {"buckets": (4, 2)}])
def test_bad_settings_are_refused(changes):
    with pytest.raises(HeadraceError, match=next(iter(changes))):
        EngineSettings(**changes)
