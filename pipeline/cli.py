"""The command `symmetry`: detect, score, info, export, serve.

Exit codes: 0, all done; 1, some images could not be read, or an error of the user's or the system's that a message
explains; 2, a wrong command line; 130 and 143, stopped by Ctrl-C and SIGTERM, with what was done so far.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pipeline.application import arguments
from pipeline.errors import DataError, UserError, needs, said
from pipeline.params.choices import Precision, Task
from pipeline.runtime.log import log_shown

if TYPE_CHECKING:
    from pipeline.application.progress import Progress
    from pipeline.inference.detector import Prepared

TASKS = get_args(Task)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    try:
        try:
            options = _parser().parse_args(words)
            with log_shown():
                code = options.run(options)
        finally:
            print(end="", flush=True)  # here, where a closed pipe is answered
        sys.exit(code)
    except UserError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except BrokenPipeError:  # what read our words has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush fails anew
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # a full disk, a folder that may not be written
        sys.exit(f"{type(error).__name__}: {said(error)}")
    except MemoryError as error:
        sys.exit(f"out of memory: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="symmetry", description="Find reflection axes and rotation centres in images."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    detect = commands.add_parser("detect", help="look at images; print what was found, or write it")
    detect.add_argument(
        "images", nargs="+", metavar="IMAGE|FOLDER|GLOB|-", help="-: a list of paths in the standard input"
    )
    detect.add_argument("--out", type=arguments.path, metavar="DIR", help="folder for detections.jsonl and pictures")
    detect.add_argument(
        "--format", choices=("jsonl", "csv"), help="print and write so; by default a table is printed, JSON written"
    )
    detect.add_argument("--json", dest="format", action="store_const", const="jsonl", help="the same as --format jsonl")
    detect.add_argument(
        "--labelme", action="store_true", help="write NAME.json of LabelMe beside each image, or into DIR/labelme"
    )
    detect.add_argument(
        "--recursive", action=argparse.BooleanOptionalAction, default=True, help="look into folders in folders, too"
    )
    detect.add_argument("--task", choices=(*TASKS, "both"), default="both")
    detect.add_argument("--threshold", type=arguments.share, help="least score, 0..1; by default each model's own")
    detect.add_argument("--batch", type=arguments.count, default=1, help="images at a time; more is faster on a GPU")
    detect.add_argument("--no-pictures", action="store_true", help="no heat maps and overlays in DIR")
    _add_model(detect)
    detect.set_defaults(run=_detect)

    score = commands.add_parser("score", help="score anyone's predictions beside what is marked")
    score.add_argument(
        "predictions", nargs="+", type=arguments.path, metavar="PREDICTIONS",
        help="a folder of heat maps (PNG of 8 or 16 bits, NPY), or axes and centres in JSON, as --out of detect writes "
        "them; several are set side by side",
    )  # fmt: skip
    score.add_argument(
        "truth", type=arguments.path, metavar="TRUTH", help="a folder of DENDI's, LabelMe's or our JSON; SDRW's .mat"
    )
    score.add_argument("--task", choices=TASKS, help="by default all that are marked and predicted")
    score.add_argument(
        "--threshold", type=arguments.number, metavar="SCORE", help="the F of axes and centres from this score on"
    )
    score.add_argument("--json", action="store_true", help="print JSON, scores in 0..1, instead of a table in per cent")
    score.set_defaults(run=_score)

    info = commands.add_parser("info", help="say what a model is")
    info.add_argument("--task", choices=TASKS, default="reflection")
    _add_weights(info)
    info.set_defaults(run=_info)

    export = commands.add_parser("export", help="write a model for other programs, checked against PyTorch")
    export.add_argument("--format", choices=("onnx", "torchscript", "portable"), required=True)
    export.add_argument("--out", type=arguments.path, required=True, metavar="FILE")
    export.add_argument("--task", choices=TASKS, default="reflection")
    _add_weights(export)
    export.set_defaults(run=_export)

    serve = commands.add_parser("serve", help="open a page in the browser to try it")
    serve.add_argument("--port", type=arguments.count, default=7860)
    serve.add_argument("--no-browser", action="store_true", help="only serve the page")
    serve.set_defaults(run=_serve)
    return parser


class _Version(argparse.Action):
    """Looks up the version when it is asked for: --help need not wait for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(parser.prog, version("clipsym-pipeline"))
        parser.exit()


def _add_model(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    parser.add_argument("--device", help="as PyTorch names it; by default the GPU where there is one")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument(
        "--engine", choices=("onnx", "torch"), help="ONNX Runtime (the package's weights, without a GPU) or PyTorch"
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=arguments.weights, metavar="FILE|hf://OWNER/REPO[/FILE]",
        help="a checkpoint instead of the package's weights; needs one --task",
    )  # fmt: skip
    parser.add_argument(
        "--prompts", type=arguments.path, metavar="FILE",
        help="with a released CLIPSym (.pt): its prompts, one a line, in order",
    )  # fmt: skip


def _prompts(path: Path | None) -> list[str] | None:
    """The prompts in a file. Raises ParamsError."""
    if path is None:
        return None
    with needs("'clipsym-pipeline[torch]'"):
        from pipeline.model.prompts import read_prompts
    return read_prompts(path, "--prompts")


def _detect(options: argparse.Namespace) -> int:
    """Print what was found, image by image; with --out, write it too: detections.jsonl, and under OUT/TASK heat maps
    (8-bit PNG) and overlays (JPEG).

    A signal is obeyed when the batch under way is written.
    """
    from pipeline.application.files import FORMATS, results
    from pipeline.application.progress import Progress
    from pipeline.application.records import FORMS
    from pipeline.application.selection import select
    from pipeline.inference.detector import load, prepare  # here and below: --help need not wait for it
    from pipeline.runtime.ahead import ahead, batches
    from pipeline.runtime.process import stop_request

    tasks = TASKS if options.task == "both" else (options.task,)
    if options.weights and len(tasks) > 1:
        raise DataError("--weights holds a model of one task: name it by --task reflection or --task rotation")
    chosen = select(options.images, options.recursive)
    names, progress = chosen.names(), Progress(len(chosen.places))
    header, record = FORMS[options.format or "table"]

    def readable() -> Iterator[tuple[Path, "Prepared"]]:
        for path in names:
            try:
                yield path, prepare(path, {size for detector in detectors for size, _ in detector.views})
            except DataError as error:
                progress.skip(error)
                progress.bar.update()

    if left_out := chosen.left_out_in_words():
        print(f"left out: {left_out}", file=sys.stderr)
    for reason in chosen.refused:
        progress.skip(reason)
    _check_device(options.device)
    prompts = _prompts(options.prompts)
    detectors = [
        load(task, options.weights, options.device, options.precision, prompts, options.engine) for task in tasks
    ]
    done, form = 0, options.format or FORMATS[0]
    folder = results(options.out, not options.no_pictures, form) if options.out else nullcontext()
    with progress.bar, folder as out, stop_request() as request:
        progress.say(header)
        at_once = min(options.batch, len(names) or 1)
        for batch in batches(ahead(readable(), at_once), at_once):
            images = [image for _, image in batch]
            found = [list(detector.stream(images, at_once, options.threshold)) for detector in detectors]
            for (path, _), *detections in zip(batch, *found):
                if out:
                    out.add(path, names[path], detections)
                if options.labelme:
                    _annotate(options.out, path, names[path], detections, progress)
                progress.say(record(path, detections))
                done += 1
                progress.bar.update()
            if request.signal:
                break
    skipped = f"{len(progress.failures)} skipped"
    if out:
        print(f"{done} images -> {out.path}; {skipped}", file=sys.stderr if options.format else sys.stdout)
    elif progress.failures:
        print(f"{done} images; {skipped}", file=sys.stderr)
    if request.signal:
        print(f"stopped by a signal before {len(names) - done} more were looked at", file=sys.stderr)
        return 128 + request.signal
    return 1 if progress.failures else 0


def _annotate(out: Path | None, image: Path, name: str, detections: list, progress: "Progress") -> None:
    """LabelMe's JSON beside the image, or under `out`."""
    from pipeline.application.labelme import annotate

    try:
        annotate(out / "labelme" / f"{name}.json" if out else image.with_suffix(".json"), image, detections)
    except DataError as error:
        progress.skip(error)


def _check_device(device: str | None) -> None:
    """Raises UserError where PyTorch cannot compute there."""
    if device in (None, "cpu"):
        return
    with needs("'clipsym-pipeline[torch]'"):
        import torch

    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # of a dozen kinds: no such name, no driver, a build without it
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {device}: PyTorch cannot use it: {reason}; without --device it chooses") from None


def _score(options: argparse.Namespace) -> int:
    """Print the scores; what was not scored, and what had no prediction, goes to the standard error."""
    from pipeline.application.score import score, tables, told

    scores = score(options.predictions, options.truth, options.task, options.threshold)
    for line in told(scores):
        print(line, file=sys.stderr)
    print(json.dumps(scores, indent=2, allow_nan=False) if options.json else tables(scores), end="\n" * options.json)
    return 0


def _info(options: argparse.Namespace) -> int:
    from pipeline.inference.detector import load

    print(json.dumps(load(options.task, options.weights, "cpu", prompts=_prompts(options.prompts)).info(), indent=2))
    return 0


def _export(options: argparse.Namespace) -> int:
    from pipeline.inference.detector import load

    with needs("'clipsym-pipeline[export]'"):
        from pipeline.application.export import export

    _check_target(options.out)
    detector = load(options.task, options.weights, "cpu", prompts=_prompts(options.prompts), engine="torch")
    print(export(detector, options.format, options.out))
    return 0


def _check_target(path: Path) -> None:
    """Whether a file can be written there, before a model is loaded. Raises DataError, or OSError which names it."""
    if path.is_dir():
        raise DataError(f"{path}: expected a file to write, got a folder; name a file in it")
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _serve(options: argparse.Namespace) -> int:
    with needs("'clipsym-pipeline[page]'"):
        from pipeline.application.page import serve

    serve(options.port, not options.no_browser)
    return 0


if __name__ == "__main__":
    main()
