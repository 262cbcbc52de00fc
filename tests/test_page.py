"""The page in a browser's place: its functions, its limits and its server."""

import gradio
import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.page import look, page, shown


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "face.png"
    image = np.zeros((120, 160, 3), np.uint8)
    image[20:100, 50:110] = 200
    Image.fromarray(image).save(path)
    return path


def test_threshold_sifts_what_was_found_once(picture):
    every, threshold = look(str(picture), "reflection")
    assert 0 < threshold < 1
    verdict, overlay, table, text = shown(every, 0.0, True)
    assert overlay.size == (160, 120) and len(table) == len(every.axes) > 0
    assert f"**{len(every.axes)} ax" in verdict and '"threshold": 0.0' in text
    verdict, overlay, table, _ = shown(every, 1.0, False)
    assert "not symmetric" in verdict and len(table) == 0
    np.testing.assert_array_equal(np.asarray(overlay), every.image)


def test_rotation_and_no_picture(picture):
    every, _ = look(str(picture), "rotation")
    assert every.task == "rotation"
    assert look(None, "rotation")[0] is None
    assert shown(None, 0.5, True) == ("", None, None, "")


def test_what_is_no_image_is_a_message(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(gradio.Error, match="cannot be decoded as an image"):
        look(str(tmp_path / "a.png"), "reflection")


def test_server_answers_on_the_loopback_interface_only():
    blocks = page()
    _, url, share = blocks.launch(
        server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True, max_file_size="20mb"
    )
    try:
        assert share is None and url.startswith("http://127.0.0.1:")
        assert requests.get(url, timeout=20).status_code == 200
        too_large = {"files": ("a.png", b"0" * (21 * 10**6))}
        assert requests.post(f"{url}gradio_api/upload", files=too_large, timeout=20).status_code == 413
    finally:
        blocks.close()
