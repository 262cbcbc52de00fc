"""Values for some keys of params.yaml, as the command line gives them: `key=value`, in YAML."""

from copy import deepcopy

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError


def changed(content: dict, change: str) -> dict:
    """The content of params.yaml with the value of one key replaced; `change` is like `train.ema=0.99`, in YAML."""
    key, equals, value = change.partition("=")
    if not equals:
        raise ParamsError(f"{change!r}: expected key=value, such as train.ema=0.99")
    content = section = deepcopy(content)
    *sections, last = key.split(".")
    for name in sections:
        allowed = sorted(key for key, value in section.items() if isinstance(value, dict))
        if name not in allowed:
            raise ParamsError(f"{change!r}: there is no section {name!r}; allowed: {', '.join(allowed) or 'none'}")
        section = section[name]
    try:
        section[last] = read_yaml(value)
    except YAMLError:
        raise ParamsError(f"{change!r}: {value!r} is not YAML") from None
    return content


def read_yaml(text: str) -> object:
    """YAML 1.2, as DVC reads it: to PyYAML 1e-4 is text, 1:30 is 90, on is true and 010 is 8. Raises YAMLError."""
    return YAML(typ="safe").load(text)
