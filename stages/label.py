"""Stage `label` of weights/dvc.yaml: the axes that a trained model finds in the photographs, for `synthesize`."""

import json
from dataclasses import astuple
from pathlib import Path

from tqdm import tqdm

from pipeline.datasets.synthetic import read_photographs
from pipeline.params import load_params
from pipeline.predictor import load
from stages.command import run_stage

AXES = Path("data/synthetic/axes.json")


def main(name: str) -> None:
    """Write what models/weights/NAME finds: {photograph: [[x1, y1, x2, y2, score], ...]}, in pixels of it as composites
    use it, at most 640 a side."""
    photographs, _ = read_photographs(load_params().synthetic.photographs)
    detector = load("reflection", Path("models/weights") / name / "model.safetensors")
    shown = tqdm(photographs.values(), desc="axes", unit="image")
    found = [[astuple(axis) for axis in seen.axes] for seen in detector.stream(shown, threshold=0.0)]
    AXES.parent.mkdir(parents=True, exist_ok=True)
    AXES.write_text(json.dumps(dict(zip(photographs, found, strict=True))) + "\n")


if __name__ == "__main__":
    run_stage(main)
