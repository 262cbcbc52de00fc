"""The command `symmetry`: detect, info, export, serve.

Exit codes: 0, all done; 1, some images could not be read, or an error of the user's that a message explains; 2, a wrong
command line.
"""

import argparse
import glob
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

from pipeline.datasets.files import IMAGES, pictures
from pipeline.errors import DataError, UserError
from pipeline.names import Precision, Task

TASKS = get_args(Task)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="symmetry", description="Find reflection axes and rotation centres in images."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    detect = commands.add_parser("detect", help="look at images; write what was found")
    detect.add_argument("images", nargs="+", metavar="IMAGE|FOLDER|GLOB")
    detect.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for detections.jsonl and pictures"
    )
    detect.add_argument("--task", choices=(*TASKS, "both"), default="both")
    detect.add_argument(
        "--threshold", type=_share, help="least score, 0..1; by default each model's best on validation"
    )
    detect.add_argument("--batch", type=_count, default=1, help="images at a time; more is faster on a GPU")
    detect.add_argument("--no-pictures", action="store_true", help="detections.jsonl only")
    _add_model(detect)
    detect.set_defaults(run=_detect)

    info = commands.add_parser("info", help="say what a model is")
    info.add_argument("--task", choices=TASKS, default="reflection")
    _add_weights(info)
    info.set_defaults(run=_info)

    export = commands.add_parser("export", help="write a model for other programs, checked against PyTorch")
    export.add_argument("--format", choices=("onnx", "torchscript", "portable"), required=True)
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--task", choices=TASKS, default="reflection")
    _add_weights(export)
    export.set_defaults(run=_export)

    serve = commands.add_parser("serve", help="open a page in the browser to try it")
    serve.add_argument("--port", type=_count, default=7860)
    serve.add_argument("--no-browser", action="store_true", help="only serve the page")
    serve.set_defaults(run=_serve)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    parser.add_argument("--device", help="as PyTorch names it; by default the GPU where there is one")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="a checkpoint instead of the package's weights; needs one --task")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="with a released CLIPSym (.pt): its prompts, one a line, in order"
    )


def _prompts(path: Path | None) -> list[str] | None:
    """The prompts in a file. Raises ParamsError."""
    from pipeline.prompts import read_prompts

    return None if path is None else read_prompts(path, "--prompts")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def _detect(options: argparse.Namespace) -> int:
    """Write OUT/detections.jsonl, a line an image, and under OUT/TASK heat maps (8-bit PNG) and overlays (JPEG)."""
    from PIL import Image  # here and below: --help need not wait for them
    from tqdm import tqdm

    from pipeline.predictor import load, pixels_of

    tasks = TASKS if options.task == "both" else (options.task,)
    if options.weights and len(tasks) > 1:
        raise DataError("--weights holds a model of one task: name it by --task reflection or --task rotation")
    found = {path: place for pattern in options.images for path, place in _files(pattern)}
    names = _names(found)
    prompts = _prompts(options.prompts)
    detectors = [load(task, options.weights, options.device, options.precision, prompts) for task in tasks]
    failures: list[str] = []

    def readable() -> Iterator[tuple[Path, object]]:
        for path in tqdm(found, unit="image"):
            try:
                yield path, pixels_of(path)
            except DataError as error:
                failures.append(str(error))
                tqdm.write(f"skipped: {error}", file=sys.stderr)

    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "detections.jsonl").open("w") as lines:
        for batch in _batches(readable(), options.batch):
            pixels = [pixels for _, pixels in batch]
            results = [list(d.stream(pixels, options.batch, options.threshold)) for d in detectors]
            for (path, _), *detections in zip(batch, *results):
                line = {"image": str(path), **{detection.task: detection.to_dict() for detection in detections}}
                lines.write(json.dumps(line) + "\n")
                for detection in [] if options.no_pictures else detections:
                    target = options.out / detection.task / "heatmaps" / f"{names[path]}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray((detection.heatmap * 255 + 0.5).astype("uint8")).save(target)
                    target = options.out / detection.task / "overlays" / f"{names[path]}.jpg"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    detection.overlay().save(target, quality=90)
    print(f"{len(found) - len(failures)} images -> {options.out / 'detections.jsonl'}; {len(failures)} skipped")
    return 1 if failures else 0


def _batches(items: Iterator, size: int) -> Iterator[list]:
    while batch := list(islice(items, size)):
        yield batch


def _files(pattern: str) -> list[tuple[Path, Path]]:
    """The images that a word of the command line names, each with its place in the folder that was named.

    Raises DataError where there are none.
    """
    path = Path(pattern)
    if path.is_dir():
        files = pictures(path, [])
        if not files:
            raise DataError(f"{path}: no images in this folder; expected files called {', '.join(sorted(IMAGES))}")
        return [(file, file.relative_to(path)) for file in files]
    files = [path] if path.is_file() else sorted(map(Path, glob.glob(pattern, recursive=True)))
    if not files:
        raise DataError(f"{pattern}: no such image, folder or files")
    return [(file, Path(file.name)) for file in files if file.is_file()]


def _names(places: dict[Path, Path]) -> dict[Path, str]:
    """What each image's pictures are called: its place without the suffix, with it where two would be called alike."""
    stems, called = Counter(place.with_suffix("") for place in places.values()), {}
    for path, place in places.items():
        name = str(place.with_suffix("") if stems[place.with_suffix("")] == 1 else place)
        if name in called:
            raise DataError(f"{called[name]} and {path}: both would be called {name}; run them apart")
        called[name] = path
    return {path: name for name, path in called.items()}


def _info(options: argparse.Namespace) -> int:
    from pipeline.predictor import load

    print(json.dumps(load(options.task, options.weights, "cpu", prompts=_prompts(options.prompts)).info(), indent=2))
    return 0


def _export(options: argparse.Namespace) -> int:
    from pipeline.exporting import export
    from pipeline.predictor import load

    detector = load(options.task, options.weights, "cpu", prompts=_prompts(options.prompts))
    print(export(detector, options.format, options.out))
    return 0


def _serve(options: argparse.Namespace) -> int:
    from pipeline.page import serve

    serve(options.port, not options.no_browser)
    return 0


if __name__ == "__main__":
    main()
