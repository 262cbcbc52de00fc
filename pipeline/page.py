"""A local web page to try the detectors: drop a picture, see its heat map, axes and centres."""

import json

import gradio
from PIL import Image

from pipeline.errors import DataError
from pipeline.predictor import Detection, pixels_of, shipped

LARGEST_UPLOAD = "20mb"
TITLE = "# Reflection axes and rotation centres\nNothing leaves this machine."


def serve(port: int, browser: bool) -> None:
    """Serve the page on the loopback interface until interrupted."""
    page().launch(
        server_name="127.0.0.1", server_port=port, inbrowser=browser, show_error=True, max_file_size=LARGEST_UPLOAD
    )


def page() -> gradio.Blocks:
    """The page: a picture, a task and a threshold above, results below."""
    with gradio.Blocks(title="Symmetry", analytics_enabled=False) as blocks:
        gradio.Markdown(TITLE)
        with gradio.Row():
            with gradio.Column():
                upload = gradio.Image(type="filepath", sources=["upload", "clipboard"], label="picture")
                task = gradio.Radio(["reflection", "rotation"], value="reflection", label="task")
                threshold = gradio.Slider(0, 1, step=0.01, label="least score")
                heat = gradio.Checkbox(value=True, label="show the heat map")
            with gradio.Column():
                verdict = gradio.Markdown(elem_id="verdict")
                overlay = gradio.Image(type="pil", label="what was found", interactive=False, elem_id="overlay")
                table = gradio.Dataframe(label="axes or centres, in pixels", interactive=False)
                download = gradio.Code(language="json", label="as JSON")
        every = gradio.State()
        show = [verdict, overlay, table, download]
        for event in (upload.change, task.change):
            event(look, [upload, task], [every, threshold]).then(shown, [every, threshold, heat], show)
        for event in (threshold.input, heat.change):
            event(shown, [every, threshold, heat], show)
    return blocks


def look(path: str | None, task: str) -> tuple[Detection | None, float]:
    """All that is found in the picture, and the model's threshold."""
    if path is None:
        return None, gradio.skip()
    try:
        pixels = pixels_of(path)
    except DataError as error:
        raise gradio.Error(str(error)) from None
    return shipped(task).detect(pixels, threshold=0.0), round(shipped(task).threshold, 2)


def shown(every: Detection | None, threshold: float, heat: bool) -> tuple[str, Image.Image | None, object, str]:
    if every is None:
        return "", None, None, ""
    found = every.above(threshold)
    count = len(found.axes) + len(found.centres)
    one, more = ("axis", "axes") if found.task == "reflection" else ("centre", "centres")
    verdict = f"**{count} {one if count == 1 else more}**" if found.symmetric else "**not symmetric**"
    return (
        f"{verdict}, best score {every.score:.2f}",
        found.overlay(heat),
        found.to_pandas().round(2),
        json.dumps(found.to_dict(), indent=2),
    )
