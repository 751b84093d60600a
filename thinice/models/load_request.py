"""What `load_classifier` is asked for: its options, and these once they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from thinice.errors import InputError, WrongFileError

if TYPE_CHECKING:
    from thinice.models.architectures.user_code import ArchitectureLike, UserCode
    from thinice.models.mask_files import GivenMasks, MasksLike
    from thinice.models.normalization import Normalization, NormalizationLike

__all__ = ["LoadOptions", "Request"]


class LoadOptions(TypedDict, total=False):
    """How a checkpoint file is read: the keywords of `load_classifier`, which says what each means."""

    architecture: ArchitectureLike | None
    architecture_args: Mapping[str, Any] | None
    normalization: NormalizationLike | None
    classes: int | None
    name: str | None
    density: float | None
    masks: MasksLike | None
    weights: str | None
    trust_pickle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of one `load_classifier`, checked; `architecture` is a name of the registry."""

    path: Path
    name: str
    architecture: str | None
    arguments: Mapping[str, Any] | None
    code: UserCode | None
    classes: int | None
    normalization: Normalization | None
    normalization_given: bool
    weights: str | None
    masks: GivenMasks | None

    def refuse_contradiction(self, argument: str, given: object, in_file: object) -> None:
        """Raise InputError where an argument was given that is not what the file says."""
        if given is not None and given != in_file:
            raise InputError(f"`{argument}` is {given}, but {self.path} says {in_file}: leave the argument out")

    def refuse_architecture(self, kind: str) -> None:
        """Raise InputError where an architecture was given for a file that brings its own."""
        if self.architecture is not None or self.arguments or self.code is not None:
            raise InputError(f"`architecture` is not needed: {self.path} is {kind}, leave the argument out")

    def refuse_entries(self, kind: str) -> None:
        """Raise InputError where an entry or masks were asked for in a file that has one network and no masks."""
        for argument, value in (("weights", self.weights), ("masks", self.masks)):
            if value is not None:
                raise InputError(
                    f"`{argument}` is for the checkpoints of other programs: {self.path} is {kind}, leave it out"
                )

    def check_classes(self, classes: int | None) -> None:
        """Raise CheckpointError where the network has another number of classes than it must have."""
        if self.classes is not None and classes is not None and self.classes != classes:
            raise WrongFileError(
                f"{self.path}: answers {classes} classes, not {self.classes}: take the checkpoint of that task"
            )

    def unknown_normalization_note(self) -> tuple[str, ...]:
        """Return the note of a file that does not say its normalisation, unless the user did."""
        if self.normalization_given:
            return ()
        return ("normalisation is not known; pixels go in as they are (normalization=, --normalization)",)
