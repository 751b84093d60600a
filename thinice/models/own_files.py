"""Files that `save_classifier` wrote, read back: every fact of them is checked before a network is built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thinice.errors import CheckpointError, InputError, WrongFileError
from thinice.models.architectures.rebuild import rebuild
from thinice.models.classifier import Classifier, assemble
from thinice.models.files import FORMAT_VERSION
from thinice.models.fingerprints import fingerprint_of, hashed_identity, structure_of
from thinice.models.mask_files import masks_of
from thinice.models.normalization import normalization_text, parse_normalization
from thinice.models.onnx_models import MOST_NUMBERS
from thinice.models.pickles import plain
from thinice.models.weight_checks import check_finite

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from thinice.models.load_request import Request
    from thinice.models.weights import Masks

__all__ = ["header_of", "own_classifier"]


def header_of(path: Path, text: str) -> Mapping[str, Any]:
    """Return what a file of safetensors says of its network."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise WrongFileError(f"{path}: its thinice header is damaged: save it again")
    return header


def own_classifier(header: Mapping[str, Any], request: Request) -> Classifier:
    """Return the classifier of a file that `save_classifier` wrote."""
    where = str(request.path)
    request.refuse_entries("a file of thinice")
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise WrongFileError(
            f"{where}: has format version {plain(version)}, newer than {FORMAT_VERSION}: update thinice"
        )
    code = request.code
    try:
        facts = {name: value for name, value in header.items() if name not in {"state_dict", "masks"}}
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()  # what is plain and in UTF-8 can be stored
        recipe, parent = _kind(header, "recipe", Mapping), _kind(header, "parent", str)
        architecture, classes = str(header["architecture"]), header["classes"]
        classes = None if classes is None else int(classes)
        arguments = dict(header["arguments"])
        entry = header["normalization"]
        in_file = parse_normalization((entry["mean"], entry["std"])) if isinstance(entry, Mapping) else None
        class_names = None if header["class_names"] is None else tuple(map(str, header["class_names"]))
        shape = None if header["input_shape"] is None else _image_shape(header["input_shape"])
        data = None if header["data"] is None else str(header["data"])
        tensors = {str(name): value for name, value in header["state_dict"].items()}
        check_finite(tensors, where)
        by_user_code = "class" in arguments
        if by_user_code:
            structure = {name: str(arguments[name]) for name in ("class", "structure")}
            arguments = {**structure, "arguments": dict(arguments["arguments"])}
            network = None
        else:
            network = rebuild(architecture, int(classes or 0), arguments, tensors, where)
            tensors = network.state_dict()
        identity = hashed_identity(architecture, arguments)
        unchanged = header["fingerprint"] == fingerprint_of(*identity, tensors, in_file)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's header may hold anything
        reason = plain(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise WrongFileError(f"{where}: its thinice header is damaged ({reason}): save it again") from None
    if not unchanged:
        raise WrongFileError(f"{where}: its weights are not those it was saved with: save it again")
    notes: tuple[str, ...] = ()
    if network is None:
        network, notes = _by_user_code(architecture, arguments, tensors, classes, request)
    else:
        if code is not None:
            request.refuse_contradiction("architecture", str(code), architecture)
        request.refuse_contradiction("architecture", request.architecture, architecture)
    request.refuse_contradiction("classes", request.classes, classes)
    if entry is not None and request.normalization_given and request.normalization != in_file:
        request.refuse_contradiction(
            "normalization", normalization_text(request.normalization), normalization_text(in_file)
        )
    return assemble(
        network,
        name=request.name,
        architecture=architecture,
        arguments=arguments,
        classes=classes,
        class_names=class_names,
        data=data,
        normalization=in_file if entry is not None else request.normalization,
        normalization_known=entry is not None or request.normalization_given,
        input_shape=shape,
        recipe=recipe,
        parent=parent,
        masks=_masks(header, network, where),
        path=request.path,
        notes=(*notes, *(() if entry is not None else request.unknown_normalization_note())),
    )


def _masks(header: Mapping[str, Any], network: nn.Module, where: str) -> Masks | None:
    tensors = header.get("masks")
    if not tensors:
        return None
    if not isinstance(tensors, Mapping):
        raise WrongFileError(f"{where}: its masks are damaged: save it again")
    masks = masks_of(tensors, where)
    try:
        held = masks.hold(network)
    except InputError as error:
        raise CheckpointError(f"{where}: {error}") from None
    if not held:
        raise WrongFileError(f"{where}: its masks drop weights that are not zero: save it again")
    return masks


def _by_user_code(
    architecture: str,
    arguments: dict[str, Any],
    weights: Mapping[str, Tensor],
    classes: int | None,
    request: Request,
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network of an own file that the user's code builds, and a note where it is not the code it was.

    Byte code differs between versions of Python, so other code is no error.
    """
    shown, code = plain(architecture), request.code
    if code is None:
        raise CheckpointError(
            f"{request.path}: holds weights for the user's own code {shown}: give architecture= (--architecture) with "
            "the path of that file, FILE.py:CLASS"
        )
    saved = arguments["arguments"]
    if saved and not code.arguments and not code.built:  # a file does not choose what the user's code is called with
        text = plain(json.dumps(saved))
        raise InputError(
            f"`architecture_args` are missing: {request.path} was saved with {shown}: give {text} (--architecture-args "
            f"'{text}')"
        )
    plausible = any(classes in value.shape for value in weights.values())
    network, _ = code.load(weights, str(request.path), otherwise=classes if plausible else None)
    structure = structure_of(network)
    if structure == arguments["structure"] and type(network).__qualname__ == arguments["class"]:
        return network, ()
    arguments |= {"class": type(network).__qualname__, "structure": structure}
    return network, (f"the code {code} is not what the file was saved with ({shown}), or another Python compiled it",)


def _kind(header: Mapping[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401 - of that kind, or None
    value = header.get(name)
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _image_shape(sizes: Any) -> tuple[int, int, int]:  # noqa: ANN401 - whatever a header says
    channels, height, width = map(int, sizes)
    if min(channels, height, width) < 1 or channels * height * width > MOST_NUMBERS:
        raise ValueError(f"input_shape {(channels, height, width)} is of no image")
    return channels, height, width
