"""Adapters at rest: checked arrays with their scale, and PEFT folders on disk."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llm.factors import Arrays, LinearShape, adapter_from_arrays

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
MODEL_CARD_FILE: Final = "README.md"

_PEFT_PREFIX: Final = "base_model.model."
#: What PEFT writes of plain LoRA beside an adapter's own fields. PEFT itself loads every kind of
#: adapter it knows, and torch: seconds and memory that a coordinator needs for nothing else.
_PEFT_CONFIG: Final = Path(__file__).with_name("peft_config.json")


class AdapterError(ValueError):
    """An adapter does not fit the base model, or its folder is damaged."""


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter and its scale: every layer's update is ``alpha / rank * b @ a``.

    Parameters
    ----------
    arrays : dict of str to ndarray of float32
        Both factors of every adapted layer, under PEFT's names.
    alpha : float
        LoRA's alpha; positive and finite.

    Raises
    ------
    AdapterError
        If an array is not finite float32, a factor is missing, the ranks differ from layer to
        layer, or alpha is not positive.
    """

    arrays: Arrays
    alpha: float

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.dtype != np.float32:
                raise AdapterError(f"{name}: dtype {array.dtype}, expected float32")
            if not np.isfinite(array).all():
                raise AdapterError(f"{name}: holds values that are not finite")
        try:
            ranks = {factors.rank for factors in adapter_from_arrays(self.arrays).values()}
        except ValueError as error:
            raise AdapterError(str(error)) from None
        if len(ranks) != 1 or 0 in ranks:
            raise AdapterError(
                f"ranks {sorted(ranks)}: expected one rank of at least 1 for all layers"
            )
        if not (np.isfinite(self.alpha) and self.alpha > 0):
            raise AdapterError(f"alpha {self.alpha}: expected a positive number")

    @property
    def rank(self) -> int:
        """Rank of every pair."""
        return next(iter(adapter_from_arrays(self.arrays).values())).rank

    @property
    def scale(self) -> float:
        """What multiplies ``b @ a``, as PEFT computes it."""
        return self.alpha / self.rank

    def check_fits(self, shapes: Mapping[str, LinearShape]) -> None:
        """Check that every adapted layer exists in the base model and has the factors' shape.

        Parameters
        ----------
        shapes : mapping of str to LinearShape
            The base model's linear layers, by PEFT module name.

        Raises
        ------
        AdapterError
            Naming the first layer that does not fit.
        """
        for module, factors in adapter_from_arrays(self.arrays).items():
            if module not in shapes:
                raise AdapterError(
                    f"{module}: the base model has no such linear layer; the adapter belongs to "
                    "another model"
                )
            if factors.shape != shapes[module]:
                raise AdapterError(
                    f"{module}: factors for a layer of {factors.shape.out_features} x "
                    f"{factors.shape.in_features}, but the base model's has "
                    f"{shapes[module].out_features} x {shapes[module].in_features}"
                )


def save_adapter(
    folder: Path, adapter: LoraAdapter, *, base_model: str, model_card: str | None = None
) -> None:
    """Write an adapter as the folder ``PeftModel.from_pretrained`` loads.

    Written aside and renamed: whoever looks finds the old folder, the new one, or (between the two
    renames that replace one folder by another) none; never half a folder.

    Parameters
    ----------
    folder : Path
        Where to write; an adapter already there is replaced.
    adapter : LoraAdapter
        What to write.
    base_model : str
        Name or folder of the base model, for the configuration.
    model_card : str, optional
        Text of the folder's README.md.

    Raises
    ------
    AdapterError
        If ``folder`` exists and is something other than an adapter.
    """
    if folder.exists() and not (folder / CONFIG_FILE).is_file():
        raise AdapterError(f"{folder}: is there already and is no adapter; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        config = json.dumps(_peft_config(adapter, base_model), indent=2, sort_keys=True)
        (aside / CONFIG_FILE).write_text(config, encoding="utf-8")
        save_file(
            {name: np.ascontiguousarray(array) for name, array in sorted(adapter.arrays.items())},
            aside / WEIGHTS_FILE,
            metadata={"format": "pt"},
        )
        if model_card is not None:
            (aside / MODEL_CARD_FILE).write_text(model_card, encoding="utf-8")
        for file in aside.iterdir():
            _fsync(file)
        # mkdtemp keeps others out; a published adapter is as readable as any folder.
        aside.chmod(0o777 & ~_umask())
        _fsync(aside)
        if folder.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(replaced / folder.name)
            aside.rename(folder)
            shutil.rmtree(replaced)
        else:
            aside.rename(folder)
        _fsync(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def read_adapter(folder: Path) -> LoraAdapter:
    """Read an adapter that :func:`save_adapter`, or PEFT, wrote.

    Raises
    ------
    AdapterError
        If the folder is missing or damaged, or holds a kind of adapter other than plain LoRA.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise AdapterError(f"{folder}: no adapter ({error.filename} is missing)") from None
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError, OSError) as error:
        raise AdapterError(f"{folder}: damaged ({error})") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{folder}: {CONFIG_FILE} is no object")
    _refuse_other_kinds(folder, config)
    try:
        adapter = LoraAdapter(
            {name: array.astype(np.float32, copy=False) for name, array in arrays.items()},
            float(config["lora_alpha"]),
        )
    except (KeyError, TypeError) as error:
        raise AdapterError(f"{folder}: {CONFIG_FILE} lacks a usable {error}") from None
    except AdapterError as error:
        raise AdapterError(f"{folder}: {error}") from None
    if config.get("r") != adapter.rank:
        raise AdapterError(
            f"{folder}: {CONFIG_FILE} says rank {config.get('r')}, the weights {adapter.rank}"
        )
    return adapter


def _refuse_other_kinds(folder: Path, config: Mapping[str, object]) -> None:
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder}: peft_type {config.get('peft_type')!r}, expected 'LORA'")
    for option in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(option):
            raise AdapterError(f"{folder}: {option} is set; expected plain LoRA")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{folder}: bias {config['bias']!r}, expected 'none'")


def _peft_config(adapter: LoraAdapter, base_model: str) -> dict[str, object]:
    modules = [name.removeprefix(_PEFT_PREFIX) for name in adapter_from_arrays(adapter.arrays)]
    alpha = int(adapter.alpha) if float(adapter.alpha).is_integer() else adapter.alpha
    return {
        **json.loads(_PEFT_CONFIG.read_text(encoding="utf-8")),
        "r": adapter.rank,
        "lora_alpha": alpha,
        # Full names: suffixes could match layers that this adapter leaves alone.
        "target_modules": sorted(modules),
        "base_model_name_or_path": base_model,
    }


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
