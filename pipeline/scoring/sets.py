"""The test sets, what is to be found in them, and the names of what is scored on them."""

from pipeline.params.choices import Task

KINDS: dict[Task, str] = {"reflection": "axes", "rotation": "centres"}

# Models: the trained one, and the weights that come with the package.
TRAINED, PACKAGED = "this run", "shipped weights"
# What is scored beside models, and was never trained: pipeline.evaluation.baselines.
CLASSICAL, CENTRE, RANDOM = "classical", "centre map", "random map"
DOUBT = "in doubt"  # of a centre whose fold is not told

# Test set -> the data sets whose test images it holds.
TEST_SETS = {
    "dendi": ("dendi",),
    "sdrw": ("sdrw",),
    "ldrs": ("ldrs",),
    "mixed": ("sdrw", "ldrs"),
    "photos": ("photos",),
    "own": ("own",),
}
