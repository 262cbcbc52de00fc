"""The stages of dvc.yaml, each run as `python -m stages.NAME`."""

from pipeline.allocation import keep_memory

keep_memory()  # here, because modules make arrays when they are imported
