"""Rooms that the engine's process makes in tests, by name."""

from __future__ import annotations

import os

import torch

from headrace.models.pipelines.loading import load
from headrace.service.worker.room import room_around

POISON = 3  # the class that crashes the process


def poisonous(settings, table=None):
    """The settings' model, whose network aborts on one class after some rows."""
    pipeline = load(settings.model)
    evaluate = pipeline.evaluate

    def treacherous(rows):
        labels = rows.conditioning["class_labels"]
        if ((labels == POISON) & (rows.timestep < 600)).any():
            os.abort()
        return evaluate(rows)

    pipeline.evaluate = treacherous
    torch.set_num_threads(1)
    return room_around(pipeline, settings, table)
