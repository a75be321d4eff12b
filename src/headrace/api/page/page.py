"""`/`: the page's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent
# Asked for again each time, and answered with 304 where nothing changed: a new version shows at once.
_FRESH = "no-cache"
router = APIRouter()


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers={"Cache-Control": _FRESH})


class PageFiles(StaticFiles):
    """Scripts, styles and drawings."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER / "static")

    def file_response(self, full_path: str | os.PathLike[str], *args: Any, **options: Any) -> Response:
        """As its parent's, never used without asking."""
        response = super().file_response(full_path, *args, **options)
        response.headers["Cache-Control"] = _FRESH
        return response
