"""The command line, run in this process."""

import sys
from typing import NamedTuple

import pytest

from headrace.cli import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def headrace(monkeypatch, capsys):
    """headrace("generate", ...) -> exit status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["headrace", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return Outcome(status, *capsys.readouterr())

    return run
