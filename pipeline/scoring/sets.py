"""The test sets."""

# Test set -> the data sets whose test images it holds.
TEST_SETS = {
    "dendi": ("dendi",),
    "sdrw": ("sdrw",),
    "ldrs": ("ldrs",),
    "mixed": ("sdrw", "ldrs"),
    "photos": ("photos",),
    "own": ("own",),
}
