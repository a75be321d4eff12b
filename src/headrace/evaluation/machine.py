"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform
import resource
import sys
from contextlib import suppress

import torch


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Names and counts that throughput depends on."""
    described: dict[str, str | int] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return described


def machine_name(device: torch.device) -> str:
    """What tells machines apart by speed, in one line: processor, cores and threads; the GPU's name on CUDA."""
    about = describe_machine(device)
    gpu = f"{about['device']}, " if device.type == "cuda" else ""
    return f"{gpu}{about['processor']}, {about['cores']} cores, {about['threads']} threads"


def reset_peak_memory(device: torch.device) -> None:
    """`peak_memory` counts from here on. Off CUDA this needs Linux; elsewhere it goes on counting from the start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # see proc(5): the resident peak becomes what is resident now


def peak_memory(device: torch.device) -> int:
    """Most bytes held since `reset_peak_memory`: by torch on a CUDA device, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration), open("/proc/self/status", encoding="utf-8") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
