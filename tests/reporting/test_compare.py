"""What counts as a missing metric, and what as a fall."""

import math

import pytest

from pipeline.reporting.compare import fallen, flatten, missing, verdict


def test_flatten():
    nested = {
        "reflection": {"images": 3, "max_f1": None, "grid": {"lite-none": {"max_f1": 0.5}}},
        "seed": 0,
        "empty": {},
    }
    assert flatten(nested) == {
        "reflection.images": 3,
        "reflection.max_f1": None,
        "reflection.grid.lite-none.max_f1": 0.5,
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ({"a": 1}, {}, ("a number", "missing")),
        ({}, {"a": 1}, ("missing", "a number")),
        ({"a": None}, {}, ("null", "missing")),
        ({"a": 0.5}, {"a": None}, ("a number", "null")),
        ({"a": None}, {"a": 0}, ("null", "a number")),
        ({"a": math.nan}, {"a": 0.5}, ("not finite", "a number")),
        ({"a": math.nan}, {"a": math.nan}, ("not finite", "not finite")),
        ({"a": 0.5}, {"a": math.inf}, ("a number", "not finite")),
        ({"a": 0.5}, {"a": "0.5"}, ("a number", "no number")),
    ],
)
def test_missing(old, new, kinds):
    assert missing(old | {"b": 1}, new | {"b": 2}) == {"a": kinds}


def test_what_both_have_is_not_missing():
    same = {"a": 0, "b": None, "c": "text", "d": [1]}
    assert missing(same, same | {"a": 0.9}) == {}


def failures(old, new, target="main", max_drop=1.0):
    """What speaks against metrics that were made alike."""
    found, within = verdict(old, new, target, max_drop, {})
    assert not within
    return found


@pytest.mark.parametrize("key", ["reflection.max_f1", "dendi.f1", "f1", "reflection.lite.max_f1"])
def test_fallen(key):
    assert fallen({key: 0.67}, {key: 0.65}) == {key: (0.67, 0.65)}
    assert fallen({key: 0.65}, {key: 0.67}) == fallen({key: 0.65}, {key: 0.65}) == {}


@pytest.mark.parametrize("old", [0.05, 0.29, 0.57, 0.67, 1.0])
def test_a_fall_by_just_what_is_allowed_passes(old):
    assert failures({"a": {"max_f1": old}}, {"a": {"max_f1": old - 0.01}}) == []
    assert failures({"a": {"max_f1": old}}, {"a": {"max_f1": old - 0.0101}})
    assert failures({"a": {"max_f1": old}}, {"a": {"max_f1": old - 1e-6}}, max_drop=0.0)


def test_noise_is_two_deviations_of_a_difference():
    """0.01 over seeds: 2 * sqrt(2) * 1 = 2.83 points. Where it is not known, a metric may fall by what is allowed."""
    old, noise = {"a": {"r": {"max_f1": 0.7, "f1": 0.6}}}, {"a": {"r.max_f1": 0.01}}
    found, within = verdict(old, {"a": {"r": {"max_f1": 0.672, "f1": 0.6}}}, "main", 1.0, noise)
    assert not found and within == ["`a` `r.max_f1` fell from 70.00 to 67.20: 2.80 points lost, 2.83 are noise"]
    found, within = verdict(old, {"a": {"r": {"max_f1": 0.671, "f1": 0.58}}}, "main", 1.0, noise)
    assert not within and found == [
        "`a` `r.max_f1` fell from 70.00 to 67.10: 2.90 points lost, 2.83 allowed",
        "`a` `r.f1` fell from 60.00 to 58.00: 2.00 points lost, 1.0 allowed",
    ]
    steady = {"a": {"r.max_f1": 0.001}}  # a fall that is more than noise fails, whatever is allowed
    assert verdict(old, {"a": {"r": {"max_f1": 0.695, "f1": 0.6}}}, "main", 1.0, steady)[0]
    assert verdict(old, {"a": {"r": {"max_f1": 0.9, "f1": 0.9}}}, "main", 1.0, noise) == ([], [])


@pytest.mark.parametrize("key", ["random_map_f1", "flip.f1_at_threshold", "precision", "threshold", "images"])
def test_only_f1_of_the_model_can_fall(key):
    assert fallen({key: 0.9}, {key: 0.1}) == {}


@pytest.mark.parametrize("other", [None, math.nan, "0.1"])
def test_what_is_missing_does_not_fall_too(other):
    assert fallen({"max_f1": 0.9}, {"max_f1": other}) == fallen({"max_f1": other}, {"max_f1": 0.9}) == {}
    assert fallen({"max_f1": 0.9}, {}) == {}


def test_failures():
    old = {"a.json": {"r": {"max_f1": 0.6738, "images": 80}}, "b.json": "no such file", "c.json": {"max_f1": 0.1}}
    new = {"a.json": {"r": {"max_f1": 0.651}}, "b.json": {"max_f1": 0.5}, "d.json": {"max_f1": 0.5}}
    assert failures(old, new, "main", 1.0) == [
        "`a.json` `r.images`: a number at main, missing here",
        "`a.json` `r.max_f1` fell from 67.38 to 65.10: 2.28 points lost, 1.0 allowed",
        "`b.json` is missing at main: no such file",
        "`c.json` is missing here: no metric of dvc.yaml, and no such file",
        "`d.json` is missing at main: no metric of dvc.yaml, and no such file",
    ]
    assert failures(new | {"b.json": "no such file"}, {"b.json": "no such file"}, "main", 1.0)[1:3] == [
        "`b.json` is missing at main: no such file",
        "`b.json` is missing here: no such file",
    ]
    assert failures({"a.json": {"max_f1": None}}, {"a.json": {"max_f1": None}}, "main", 1.0) == []
