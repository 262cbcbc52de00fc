"""`python -m benchmarks.same_bytes [BACKBONE ...]`: digests of all that a small run makes, to compare processors by.

Fetches and packs a few embedded images of DENDI, trains two steps, evaluates; all in this process, so that it can be
emulated: `qemu-x86_64 -cpu Skylake-Client .venv/bin/python -m benchmarks.same_bytes` (QEMU 11.1 does it, 7.2 does not).
"""

import hashlib
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).parents[1]
OUTS = "data/raw/dendi", "data/packed/model/dendi", "models/main/model.safetensors", "evaluation/dendi", "metrics"
CHANGES = "embedded.images=8 train.datasets=[dendi] train.epochs=1 train.warmup=0 train.batch=4 prompts.count=2".split()


def main(*backbones: str) -> None:
    """Print `DIGEST BACKBONE OUT` for each of the outs."""
    for backbone in backbones or ("lite", "tiny"):
        with TemporaryDirectory() as folder:
            os.chdir(folder)
            run(backbone)
            for out in OUTS:
                print(digest(Path(out))[:16], backbone, out, flush=True)


def run(backbone: str) -> None:
    """The stages for DENDI in the present folder."""
    import yaml

    from pipeline.params.changes import changed
    from pipeline.runtime.processor import compute_as

    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for change in [f"backbone={backbone}", f"backbones.{backbone}.input_size=96", *CHANGES]:
        params = changed(params, change)
    Path("params.yaml").write_text(yaml.safe_dump(params))

    compute_as(Path("params.yaml"))
    from stages import evaluate, fetch, preprocess, train  # no library before

    fetch.fetch("dendi")
    preprocess.preprocess("dendi", "model")
    train.main()
    evaluate.main("dendi")


def digest(out: Path) -> str:
    """The sha256 of a file, or of a folder's files with their names; in 64 hexadecimal digits."""
    files = sorted(path for path in out.rglob("*") if path.is_file()) if out.is_dir() else [out]
    found = hashlib.sha256()
    for path in files:
        found.update(path.relative_to(out).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
