"""Imports what commands import when they get to work, so that processes forked after it need not."""

import pkgutil
from importlib import import_module

import dvc.cli
import dvc.commands.repro  # noqa: F401
import torch

import pipeline
import stages

torch.set_num_threads(1)
for package in (pipeline, stages):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith(("pipeline.application.page", "pipeline.conversion")):  # Gradio, ONNX
            import_module(module.name)
