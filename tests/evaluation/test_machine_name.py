"""The name that a machine goes by in artefacts."""

from __future__ import annotations

import torch

from headrace.evaluation.machine import describe_machine, machine_name


def test_a_machine_is_told_by_what_its_speed_depends_on():
    cpu = torch.device("cpu")
    about, before = describe_machine(cpu), torch.get_num_threads()
    assert machine_name(cpu) == f"{about['processor']}, {about['cores']} cores, {before} threads"
    try:
        torch.set_num_threads(before + 1)
        assert machine_name(cpu).endswith(f"{before + 1} threads")
    finally:
        torch.set_num_threads(before)
