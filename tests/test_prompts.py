"""Prompts: their shape, their dependence on the seed, and the vocabulary they are drawn from."""

from collections import Counter
from typing import get_args

import pytest

from pipeline.errors import UserError
from pipeline.names import PromptKind
from pipeline.prompts import draw, read_vocabulary

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
    assert all(word.isalpha() and word.islower() for prompt in drawn for word in prompt.split())
    assert not set(" ".join(drawn).split()) & set(WORDS)


@pytest.mark.parametrize("kind", get_args(PromptKind))
def test_seed(kind):
    assert prompts(kind) == prompts(kind)
    assert all(type(prompt) is str for prompt in prompts(kind))
    assert (prompts(kind) != prompts(kind, seed=1)) == (kind in ("sapg", "objects_25", "random_letters"))


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
