"""Stage `label` of weights/dvc.yaml: the axes that a trained model finds in the photographs, for `synthesize`.

`python -m stages.label NAME FILE 320 416:mirrored`: looking at them with these sizes, as `ship` does.
"""

import json
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pipeline.data.synthesis.synthetic import read_photographs
from pipeline.inference.detector import Detector, load, parse_view
from pipeline.params import load_params
from pipeline.params.project import located
from pipeline.runtime.files import write_text
from stages.command import run_stage


def main(name: str, file: str, *views: str) -> None:
    """Write what models/weights/NAME finds: {photograph: {"axes": [[x1, y1, x2, y2, score], ...], "centres": []}}, in
    pixels of it as composites use it, at most 640 a side."""
    photographs, _ = read_photographs(located(load_params().synthetic.photographs))
    trained = load("reflection", Path("models/weights") / name / "model.safetensors")
    detector = Detector(trained.model, replace(trained.record, views=tuple(parse_view(view) for view in views)))
    shown = tqdm(photographs.values(), desc="axes", unit="image")
    seen = detector.stream(shown, threshold=0.0)
    found = [{"axes": [list(axis) for axis in one.axes], "centres": []} for one in seen]
    write_text(Path(file), json.dumps(dict(zip(photographs, found, strict=True))) + "\n")


if __name__ == "__main__":
    run_stage(main)
