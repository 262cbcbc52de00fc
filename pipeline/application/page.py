"""A local web page to try the detectors: drop a picture, see its heat map, axes and centres."""

import json
import logging
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from PIL import Image
from starlette.middleware import Middleware

from pipeline.application.server import (
    HOST,
    LARGEST_UPLOAD,
    Guard,
    Tabs,
    check_port,
    ignore_environment,
    private_folder,
)
from pipeline.errors import DataError
from pipeline.inference.detection import Detection
from pipeline.inference.detector import shipped
from pipeline.runtime.files import save_image

logger = logging.getLogger(__name__)


ignore_environment()
import gradio  # noqa: E402
from gradio.data_classes import ImageData  # noqa: E402

TITLE = "# Reflection axes and rotation centres\nNothing leaves this machine."
LONGEST_SHOWN = 2000  # pixels of a side of the picture that the browser shows
EXAMPLES = Path(__file__).parent / "examples"
SEEN = {"cat.jpg": "reflection", "coffee.jpg": "reflection", "flower.jpg": "rotation"}  # the task that suits each
CREDITS = "Photographs: Stefan van der Walt (CC0), Rachel Michetti (CC0), vultilion (CC BY 2.0, scaled down)."
HEADERS = ["kind", "x1", "y1", "x2", "y2", "score"]  # before anything was looked at
SESSIONS = 8  # whose components' values Gradio remembers
TABS = Tabs()
DETECTOR = ThreadPoolExecutor(1)  # one thread: each that computes keeps memory of its own


def serve(port: int, browser: bool) -> None:
    """Serve the page on the loopback interface until Ctrl-C or SIGTERM. Raises UserError where the port is taken."""
    ignore_environment()
    check_port(port)
    with private_folder() as folder:
        gradio.routes.DEFAULT_TEMP_DIR = str(folder)  # or it makes one in /tmp/gradio, another user's perhaps
        blocks, guard = page(), Middleware(Guard, folder=folder, closed=forget)
        try:
            blocks.launch(
                share=False, allowed_paths=[], server_name=HOST, server_port=port, inbrowser=browser, quiet=True,
                ssl_verify=False, show_error=True, max_file_size=LARGEST_UPLOAD, run_history=False,
                enable_monitoring=False, state_session_capacity=SESSIONS, prevent_thread_lock=True,
                app_kwargs={"middleware": [guard]},
            )  # fmt: skip
            logger.info("http://%s:%d, for this machine only; Ctrl-C ends it", HOST, port)
            while blocks.is_running:
                time.sleep(0.1)
        except KeyboardInterrupt:
            logger.info("the page is closed")
        finally:
            blocks.close(verbose=False)


def page() -> gradio.Blocks:
    """The page: a picture, a task and a threshold above, results below."""
    with gradio.Blocks(title="Symmetry", analytics_enabled=False) as blocks:
        gradio.Markdown(TITLE)
        with gradio.Row():
            with gradio.Column():
                upload = gradio.Image(sources=["upload", "clipboard"], label="picture", buttons=["fullscreen"])
                upload.preprocess = uploaded_file
                pictures = [[str(EXAMPLES / name)] for name in SEEN]
                examples = gradio.Dataset(components=["image"], samples=pictures, type="index", label="examples")
                gradio.Markdown(CREDITS)
                task = gradio.Radio(["reflection", "rotation"], value="reflection", label="task")
                threshold = gradio.Slider(0, 1, step=0.01, label="least score")
                heat = gradio.Checkbox(value=True, label="show the heat map")
            with gradio.Column():
                verdict = gradio.Markdown(elem_id="verdict")
                overlay = gradio.Image(
                    label="what was found", show_label=False, interactive=False, elem_id="overlay",
                    buttons=["download", "fullscreen"],
                )  # fmt: skip  # no button to share it; the label would hide words on the picture
                table = gradio.Dataframe(
                    label="axes or centres, in pixels", interactive=False, headers=HEADERS, elem_id="table"
                )
                download = gradio.Code(language="json", label="as JSON")
        show = [verdict, overlay, table, download]
        examples.click(example, examples, [upload, task])
        for event in (upload.change, task.input):  # not task.change: an example changes both
            event(look, [upload, task, heat], [threshold, *show])
        for event in (threshold.input, heat.change):
            event(sift, [upload, task, threshold, heat], show)
    return blocks


def example(number: int) -> tuple[str, str]:
    """A copy of an example for the tab that asks, to go with it like an upload; and the task that suits it."""
    name, task = list(SEEN.items())[number]
    own = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])) / name
    return str(shutil.copyfile(EXAMPLES / name, own)), task


def uploaded_file(picture: ImageData | None) -> str | None:
    """The path of an upload, to be decoded by us: Gradio would try every decoder that Pillow has."""
    return None if picture is None else picture.path


def look(path: str | None, task: str, heat: bool, request: gradio.Request) -> tuple:
    """The model's threshold, rounded as the slider's steps are, and what is shown of what lies above it."""
    TABS.keep(request.session_hash, "upload", path)
    threshold = shipped(task).threshold
    return round(threshold, 2), *sift(path, task, threshold, heat, request)


def sift(path: str | None, task: str, threshold: float, heat: bool, request: gradio.Request) -> tuple:
    """What is shown of what lies above the threshold; its picture as a file."""
    if path is None:
        TABS.keep(request.session_hash, "overlay", None)
        return "", None, None, ""
    try:
        verdict, picture, *rest = shown(found(path, task).above(threshold), heat)
    except DataError as error:
        message = str(error).replace(path, Path(path).name)  # the folder says nothing to who dropped a picture
        raise gradio.Error(message, print_exception=False) from None
    handle, overlay = tempfile.mkstemp(suffix=".jpg", dir=Path(path).parent)
    os.close(handle)
    save_image(picture, Path(overlay), quality=90)
    TABS.keep(request.session_hash, "overlay", overlay)
    return verdict, overlay, *rest


@lru_cache(maxsize=2)  # of the picture that is looked at, both tasks
def found(path: str, task: str) -> Detection:
    """All that is found in a picture. Raises DataError."""
    return DETECTOR.submit(lambda: shipped(task).detect(path, threshold=0.0)).result()


def forget(tab: str) -> None:
    """Give back what a closed tab held."""
    TABS.close(tab)
    found.cache_clear()


def shown(detection: Detection, heat: bool) -> tuple[str, Image.Image, object, str]:
    """The verdict, the picture, at most LONGEST_SHOWN pixels a side, the table and the JSON."""
    count = len(detection.axes) + len(detection.centres)
    one, more = ("axis", "axes") if detection.task == "reflection" else ("centre", "centres")
    verdict = f"**{count} {one if count == 1 else more}**" if detection.symmetric else "**nothing found**"
    picture = detection.overlay(heat)
    picture.thumbnail((LONGEST_SHOWN, LONGEST_SHOWN))
    return (
        f"{verdict}, best score {detection.score:.2f}",
        picture,
        detection.to_pandas().round(2),
        json.dumps(detection.to_dict(), indent=2),
    )
