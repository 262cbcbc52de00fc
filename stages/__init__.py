"""The stages of dvc.yaml, each run as `python -m stages.NAME`."""

from pipeline.runtime.process import keep_memory, stop_with_dvc

stop_with_dvc()  # here and not later: importing the rest takes seconds
keep_memory()  # here, because modules make arrays when they are imported
