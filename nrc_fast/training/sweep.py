"""Checkpoints of a training, measured one after the other."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray, StoredArray
from nrc_fast.base.libraries import require_library
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.metrics.conventions import ConventionName
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.training.head_batches import FeatureReading
from nrc_fast.training.layer_balance import balance_below
from nrc_fast.training.monitor import Monitor
from nrc_fast.training.saved_models import load_weights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["CheckpointSweep"]


class CheckpointSweep:
    """Measures checkpoints of a training, one by one.

    Parameters
    ----------
    head : str
        Name of the last linear layer.
    data : path
        An .npz file with inputs and targets.
    model : torch.nn.Module, optional
        The model that is given the weights of each checkpoint. Without it only NRC3 and gamma are known, from the
        head's weights.
    inputs_key, targets_key : str
        Names in the data.
    batch_rows : int
        Rows that the model is called with. Inputs that are floats are given in the dtype of its parameters.
    features : {"held", "streamed", "again"}
        What is kept of the features while they are measured, see `nrc_fast.Monitor`.
    convention : str
        Definition of NRC1 and NRC2 in use, see `nrc_fast.CONVENTIONS`.

    Attributes
    ----------
    history : History
        Longer by one record with every checkpoint.
    balances : dict of int to float
        By the step of each checkpoint, the relative imbalance of the head and the linear layer below, see
        `nrc_fast.balance`: NaN without a model, and where something stands between.

    Raises
    ------
    ImportError
        torch is not installed.
    OSError, TypeError, ValueError
        The data is missing or holds something else, or the model has no such layer.
    """

    def __init__(
        self,
        *,
        head: str,
        data: str | Path,
        model: Module | None = None,
        inputs_key: str = "inputs",
        targets_key: str = "targets",
        batch_rows: int = 1024,
        features: FeatureReading = "held",
        convention: ConventionName = "nrc24",
    ) -> None:
        if batch_rows < 1:
            msg = f"batch_rows is {batch_rows}; a number of rows from 1 on is expected"
            raise ValueError(msg)
        inputs, targets = _load_data(Path(data), inputs_key if model is not None else None, targets_key)
        self._head, self._model = head, model
        self.balances: dict[int, float] = {}
        if model is None:
            self.history = History(convention=convention)
            self._target_covariance = _covariance(targets)
            return
        torch = require_library("torch", "torch")
        X, Y = torch.from_numpy(inputs), torch.from_numpy(targets)
        dtypes = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
        if dtypes and X.is_floating_point():
            X = X.to(dtypes[0])
        batches = list(zip(X.split(batch_rows), Y.split(batch_rows), strict=True))
        self._monitor = Monitor(model, batches, layer=head, features=features, convention=convention)
        self.history = self._monitor.history

    @property
    def has_balance(self) -> bool:
        """Whether the head of the model is right above another linear layer."""
        return self._model is not None and not math.isnan(balance_below(self._model, self._head).value)

    def add(self, step: int, path: str | Path) -> Record:
        """Measure one checkpoint.

        Raises
        ------
        OSError, ValueError, RuntimeError
            The file is missing or holds something else, or its weights do not fit the model. TypeError where the model
            or its layers are given or return something else than numbers.
        """
        weights = load_weights(path)
        if self._model is None:
            self.balances[step] = math.nan
            head = self._head_of(weights, path)
            try:
                return self.history.add_weights(step, head, self._target_covariance)
            except (TypeError, ValueError) as error:
                msg = f"{path} has a layer {self._head!r} that cannot be measured: {error}"
                raise ValueError(msg) from error
        try:
            self._model.load_state_dict(weights)
        except RuntimeError as error:
            msg = f"{path} does not fit the model: {error}"
            raise ValueError(msg) from error
        self.balances[step] = balance_below(self._model, self._head).value
        return self._monitor.evaluate(step)

    def _head_of(self, weights: Mapping[str, Tensor], path: str | Path) -> Tensor:
        name = f"{self._head}.weight"
        if name not in weights:
            listed = ", ".join(key.removesuffix(".weight") for key in weights if key.endswith(".weight"))
            msg = f"{path} has no layer {self._head!r} with weights; it has {listed}"
            raise ValueError(msg)
        head = weights[name]
        torch = require_library("torch", "torch")
        is_matrix = isinstance(head, torch.Tensor) and head.ndim == 2 and head.is_floating_point()
        if not is_matrix or head.layout != torch.strided:
            found = f"{head.dtype} of shape {tuple(head.shape)}" if hasattr(head, "dtype") else type(head).__name__
            msg = f"{path} has as {name} a {found}; a matrix of floats that is not sparse is expected"
            raise ValueError(msg)
        if len(head) != len(self._target_covariance):
            msg = f"{self._head} of {path} has {len(head)} outputs and the targets have {len(self._target_covariance)}"
            raise ValueError(msg)
        return head


def _covariance(targets: FloatArray) -> FloatArray:
    column = targets[:, np.newaxis] if targets.ndim == 1 else targets
    statistics = FeatureStatistics(column.shape[1], unit_rows=False, precision="highest")
    return statistics.update(column).covariance


def _load_data(path: Path, inputs_key: str | None, targets_key: str) -> tuple[StoredArray | None, StoredArray]:
    if not path.is_file():
        msg = f"{path} is no file; an .npz file with inputs and targets is expected"
        raise FileNotFoundError(msg)
    wanted = [key for key in (inputs_key, targets_key) if key is not None]
    try:
        with path.open("rb") as opened:
            arrays = _arrays_of(opened, wanted, path)
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{path} is no .npz file, or is damaged: {error}"
        raise ValueError(msg) from error
    if len({len(array) if array.ndim else 0 for array in arrays}) > 1:
        msg = f"{path} has {' and '.join(str(array.shape) for array in arrays)}; both need a row for each sample"
        raise ValueError(msg)
    return None if inputs_key is None else arrays[0], arrays[-1]


def _arrays_of(opened: IO[bytes], wanted: list[str], path: Path) -> list[StoredArray]:
    try:
        file = np.load(opened, allow_pickle=False)
    except ValueError as error:  # of numpy, about pickles
        msg = f"{path} is no .npz file"
        raise ValueError(msg) from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        msg = f"{path} holds a single array; an .npz file with inputs and targets is expected"
        raise TypeError(msg)
    with file:
        missing = [key for key in wanted if key not in file.files]
        if missing:
            msg = f"{path} has no {' and no '.join(missing)}; it has {', '.join(file.files)}. Name them with a key"
            raise ValueError(msg)
        return [_array(file, key, path) for key in wanted]


def _array(file: np.lib.npyio.NpzFile, key: str, path: Path) -> StoredArray:
    try:
        array: StoredArray = file[key]
    except ValueError as error:
        msg = f"{key} in {path} holds something else than numbers"
        raise ValueError(msg) from error
    return array
