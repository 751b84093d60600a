"""Keys of networks in the public benchmark: method, architecture, data, structure and sparsity in one word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from thinice.errors import InputError

__all__ = ["ARCHITECTURES", "DATA", "SPARSITIES", "STRUCTURES", "Category", "ModelKey", "check_method_key"]

ARCHITECTURES = {"R18": "ResNet-18", "V16": "VGG-16"}
DATA = {"CIFAR10": "CIFAR-10", "SVHN": "SVHN"}
STRUCTURES = {"US": "unstructured", "S": "structured"}
SPARSITIES = {"US": (90, 95, 99), "S": (50, 75, 90)}
"""In percent; other sparsities have no leaderboard."""

METHOD = re.compile(r"[^\W_][\w-]*_[^\W\d_]+\d{4}[^\W_]\w*")
"""``Name_FirstauthorYearFirstword``; letters of any alphabet."""
KEY = re.compile(r"(?P<method>.+)_(?P<architecture>[^_]+)_(?P<data>[^_]+)_(?P<structure>[^_]+)_(?P<sparsity>[^_]+)")


class Category(NamedTuple):
    """What networks of a leaderboard have in common: only these are ranked together."""

    architecture: str
    """``"R18"`` or ``"V16"``."""
    data: str
    """``"CIFAR10"`` or ``"SVHN"``."""
    structure: str
    """``"US"``, single weights, or ``"S"``, filters or channels."""
    sparsity: int
    """Percent of the weights that are zero."""

    @property
    def label(self) -> str:
        """What tables call it.

        >>> Category("R18", "CIFAR10", "US", 90).label
        'ResNet-18, CIFAR-10, unstructured, 90 %'
        """
        names = ARCHITECTURES[self.architecture], DATA[self.data], STRUCTURES[self.structure]
        return f"{', '.join(names)}, {self.sparsity} %"


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The key of a network: a method and a category.

    Raises
    ------
    InputError
        For a method whose key is not of the form, or a category that the benchmark does not have.

    Examples
    --------
    >>> key = ModelKey.parse("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90")
    >>> key.method, key.category.sparsity, str(key)
    ('HYDRA_Sehwag2020Hydra', 90, 'HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90')

    """

    method: str
    category: Category

    def __post_init__(self) -> None:
        check_method_key(self.method)
        architecture, data, structure, sparsity = self.category
        for name, value, known in (
            ("architecture", architecture, ARCHITECTURES),
            ("data", data, DATA),
            ("structure", structure, STRUCTURES),
        ):
            if value not in known:
                raise InputError(f"`{name}` of a model key must be {' or '.join(known)}, got {value!r}")
        if sparsity not in SPARSITIES[structure]:
            allowed = ", ".join(map(str, SPARSITIES[structure]))
            raise InputError(f"`sparsity` of a model key with structure {structure} must be {allowed}, got {sparsity}")

    def __str__(self) -> str:
        return "_".join((self.method, *map(str, self.category)))

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """Return the key that a text is; the method is what stands before the last four parts."""
        parts = KEY.fullmatch(text)
        if parts is None or not parts["sparsity"].isascii() or not parts["sparsity"].isdecimal():
            form = "METHOD_R18_CIFAR10_US_90"
            raise InputError(
                f"`model_key` {text!r} is not of the form {form}: method, architecture, data, structure, %"
            )
        category = Category(parts["architecture"], parts["data"], parts["structure"], int(parts["sparsity"]))
        return cls(parts["method"], category)


def check_method_key(key: str) -> None:
    """Raise `InputError` unless a key is of the form ``Name_FirstauthorYearFirstword``.

    >>> check_method_key("BCSP_Özdenizc2021Training")
    >>> check_method_key("mine")
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `ap_key` 'mine' is not of the form Name_FirstauthorYearFirstword: HYDRA_Sehwag2020Hydra
    """
    if len(key) > 100 or METHOD.fullmatch(key) is None:
        raise InputError(f"`ap_key` {key!r} is not of the form Name_FirstauthorYearFirstword: HYDRA_Sehwag2020Hydra")
