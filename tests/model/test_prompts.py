"""Prompts: their shape, their dependence on the seed, and the vocabulary they are drawn from."""

from collections import Counter
from pathlib import Path
from string import ascii_lowercase
from typing import get_args

import numpy as np
import pandas
import pytest

from pipeline.errors import ParamsError, UserError
from pipeline.model.backbones import catalogue
from pipeline.model.prompts import chosen, draw, read_vocabulary
from pipeline.params import PromptParams, load_params
from pipeline.params.choices import PromptKind
from stages import check

RECORDED = ["1331 1640 1643 1342", "421 1021 457 1679"]
WORDS = [f"w{number}" for number in range(40)]


def prompts(kind, count=25, words=4, vocabulary=WORDS, seed=0):
    return draw(kind, count, words, vocabulary, seed)


def test_sapg():
    drawn = prompts("sapg")
    assert len(drawn) == 25 and len(set(drawn)) > 1
    for prompt in drawn:
        words = prompt.split(" ")
        assert len(words) == len(set(words)) == 4 and set(words) <= set(WORDS)


def test_words_are_drawn_uniformly_and_without_replacement():
    counts = Counter(word for prompt in prompts("sapg", count=5000) for word in prompt.split())
    assert set(counts) == set(WORDS)
    assert all(400 < count < 600 for count in counts.values())  # 500 each, standard deviation 21
    assert sorted(prompts("sapg", count=1, words=40)[0].split()) == sorted(WORDS)


def test_objects_25():
    (prompt,) = prompts("objects_25")
    assert len(set(prompt.split())) == len(prompt.split()) == 25 and set(prompt.split()) <= set(WORDS)


def test_fixed_prompts():
    assert prompts("reflection_axis") == ["reflection axis"]
    assert prompts("symmetry_axes") == ["symmetry axes in the image"]
    assert prompts("none") == []


def test_random_letters():
    drawn = prompts("random_letters", count=3, words=5)
    assert [len(prompt.split()) for prompt in drawn] == [5, 5, 5] and len(set(drawn)) == 3
    assert all(len(letter) == 1 and letter in ascii_lowercase for prompt in drawn for letter in prompt.split(" "))
    letters = Counter(prompts("random_letters", count=1, words=26_000)[0].split())
    assert set(letters) == set(ascii_lowercase) and all(850 < count < 1150 for count in letters.values())


def test_random_letters_of_the_released_seed():
    """What `random.choices` gives after `random.seed(41)`."""
    assert prompts("random_letters", seed=41)[:3] == ["j f e x", "p r o j", "t o u r"]


@pytest.mark.parametrize("count, words", [(25, 4), (3, 1), (2, 40), (7, 16)])
def test_the_released_draw_is_that_of_pandas(tmp_path, monkeypatch, count, words):
    """As the released code draws, from a file with a repeated entry, a blank line and an entry of two words."""
    path = tmp_path / "objects.csv"
    path.write_text("\n".join([*WORDS, "fire hydrant", "", WORDS[3]]) + "\n")
    state = np.random.get_state()
    try:
        np.random.seed(41)
        objects = pandas.read_csv(path, header=None)
        expected = [" ".join(objects.sample(words)[0].tolist()) for _ in range(count)]
    finally:
        np.random.set_state(state)
    asked = PromptParams(kind="released", count=count, words=words, vocabulary=path, file=None)
    assert chosen(asked, 0) == chosen(asked, 1) == expected


def test_the_released_draw_of_as_many_words_as_the_released_file_holds():
    """Places among 2,081 entries, recorded from pandas: with the released objects.csv they are tundra, orangutan..."""
    places = [str(number) for number in range(2081)]
    assert prompts("released", vocabulary=places)[:2] == RECORDED


@pytest.mark.parametrize("kind", [kind for kind in get_args(PromptKind) if kind != "file"])
def test_seed(kind):
    assert prompts(kind) == prompts(kind)
    assert all(type(prompt) is str for prompt in prompts(kind))
    assert (prompts(kind) != prompts(kind, seed=1)) == (kind in ("sapg", "objects_25", "random_letters"))


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffcat dog\n\n  fire hydrant \r\nvögel", encoding="utf-8")
    asked = PromptParams(kind="file", count=25, words=4, vocabulary=None, file=path)
    assert chosen(asked, 0) == ["cat dog", "fire hydrant", "vögel"]


@pytest.mark.parametrize(
    "content, words", [(None, "not found"), (b"", "empty"), (b" \n\n", "empty"), (b"\xff\xfe", "UTF-8"), ("", "text")]
)
@pytest.mark.parametrize("kind, key", [("file", "prompts.file"), ("sapg", "prompts.vocabulary")])
def test_a_bad_file_is_the_users_error(tmp_path, content, words, kind, key):
    """Missing, empty, blank, not text, a folder; the message names the file and the key."""
    path = tmp_path / "words.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(ParamsError, match=rf"words\.txt: .*{words}.*{key.replace('.', '[.]')}"):
        chosen(PromptParams(kind=kind, count=1, words=1, vocabulary=path, file=path), 0)


def test_a_quote_that_nothing_closes(tmp_path):
    (tmp_path / "words.csv").write_text('cat\n"dog\n' + "bird\n" * 30_000)
    with pytest.raises(ParamsError, match=r"words\.csv: not CSV, at line .*prompts\.vocabulary"):
        read_vocabulary(tmp_path / "words.csv")


@pytest.mark.parametrize("kind", ["none", "reflection_axis", "symmetry_axes", "random_letters", "file"])
def test_kinds_without_a_vocabulary_read_none(tmp_path, kind):
    (tmp_path / "prompts.txt").write_text("cat")
    nowhere = tmp_path / "nowhere.csv"
    params = PromptParams(kind=kind, count=1, words=1, vocabulary=nowhere, file=tmp_path / "prompts.txt")
    assert len(chosen(params, 0)) == (kind != "none")


def test_entries_of_several_words_stay_whole():
    assert set(prompts("sapg", words=1, vocabulary=["fire hydrant", "tie"])) == {"fire hydrant", "tie"}


def test_default_vocabulary():
    words = read_vocabulary(None)
    assert len(words) == len(set(words)) > 1000
    assert {"person", "toothbrush", "tabby", "goldfish"} <= set(words)
    assert not {"N/A", "__background__", ""} & set(words)


def test_vocabulary_file(tmp_path):
    path = tmp_path / "objects.csv"
    path.write_text('cat,12\n"fire hydrant",7\n\n  dog \ncat,3\nvögel\n,5\n', encoding="utf-8")
    assert read_vocabulary(path) == ["cat", "fire hydrant", "dog", "vögel"]


def test_missing_vocabulary_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="nowhere.txt.*prompts.vocabulary"):
        read_vocabulary(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("kind, words", [("sapg", 4), ("objects_25", 25)])
def test_too_small_vocabulary_is_the_users_error(kind, words):
    with pytest.raises(UserError, match=f"{words}.*3"):
        prompts(kind, vocabulary=WORDS[:3])


@pytest.mark.parametrize("where", ["prompts.kind=file", "ablation.prompts=[none,file]"])
def test_a_missing_file_of_prompts_stops_the_run_before_any_work(tmp_path, monkeypatch, where):
    params = load_params(Path(__file__).parents[2] / "params.yaml", ["prompts.file=nowhere.txt", where])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "load_params", lambda: params)
    monkeypatch.setattr(catalogue, "require_weights", lambda entry: None)
    with pytest.raises(ParamsError, match=r"nowhere\.txt.*prompts\.file"):
        check.check()
    assert not (tmp_path / "data").exists()
    (tmp_path / "nowhere.txt").write_text("cat dog\n")
    check.check()
    assert (tmp_path / "data" / "checked").is_file()
