"""Stage `preprocess`: one data set's splits, each packed into one file, under data/packed/PURPOSE/NAME."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

from pipeline.data.packed.split import SUFFIX
from pipeline.data.preparation.catalogue import SPLITS, UNCLIPPED, read, unused_images
from pipeline.data.preparation.prepare import pack
from pipeline.data.reading.findings import LEFT_OUT, Finding
from pipeline.errors import DataError
from pipeline.params import load_params
from pipeline.runtime.files import atomic_folder
from stages.command import run_stage

logger = logging.getLogger(__name__)


def preprocess(dataset: str, purpose: str) -> None:
    """Pack for `purpose`: `model`, at the chosen backbone's input size, or `ablation`, at the size of the grid.

    All malformed files are listed at once. With `preprocess.faults: skip` the rest is packed; findings.json holds them.
    """
    params, root = load_params(), Path("data/raw") / dataset
    size = params.ablation.input_size if purpose == "ablation" else params.chosen.input_size
    clip = params.preprocess.targets == "clipped" or dataset not in UNCLIPPED
    validation = params.evaluate.sdrw_validation if dataset == "sdrw" else None
    seed = params.data_seed if dataset == "sdrw" else None
    labels = params.own.labels if dataset == "own" else ()
    found: dict[str, list[Finding]] = {}
    broken, used = [], set()
    with atomic_folder(Path("data/packed") / purpose / dataset) as folder:
        for split in SPLITS[dataset]:
            findings = found[split] = []
            try:
                samples = read(dataset, root, params.task, split, validation, seed, findings, labels)
            except DataError as error:
                broken.append(str(error))
                continue
            used |= {sample.image for sample in samples}
            path, description = folder / f"{split}{SUFFIX}", f"{dataset} {split}"
            findings += pack(samples, params.task, size, path, description, params.preprocess.repair, clip)
        faults = [finding.text for findings in found.values() for finding in findings if finding.kind == "fault"]
        if broken or (faults and params.preprocess.faults == "stop"):
            raise DataError(_message(dataset, broken, faults))
        if used:
            found["none"] = unused_images(root, used)
        content = {split: [asdict(finding) for finding in dict.fromkeys(list_)] for split, list_ in found.items()}
        (folder / "findings.json").write_text(json.dumps(content, indent=1) + "\n")
    strange = [f.text for findings in found.values() for f in findings if f.what == LEFT_OUT]
    if strange:
        logger.info(
            "%s: %s of %d images (params.yaml: own.labels); the data report lists them, such as %s",
            dataset, LEFT_OUT, len(strange), strange[0],
        )  # fmt: skip
    if faults:
        logger.info(
            "%s: %d malformed files left out (preprocess.faults: skip); the data report lists them",
            dataset, len(faults),
        )  # fmt: skip


def _message(dataset: str, broken: list[str], faults: list[str]) -> str:
    lines = [*broken, *dict.fromkeys(faults)]
    text = "\n".join(f"  {line}" for line in lines)
    advice = "mend or remove them, or go on without them: preprocess.faults: skip (params.yaml)"
    if broken:
        advice = "the first of them concern a whole split, which cannot be skipped" if faults else "nothing was packed"
    return f"{dataset}: {len(lines)} files are malformed:\n{text}\n{advice}"


if __name__ == "__main__":
    run_stage(preprocess)
