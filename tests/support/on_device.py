"""The tests of the CPU on devices: what they give to the public functions is placed there first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

PLACES = ["cpu", "emulated", "card"]
# Rows times squared features, of 64 at least, that the emulated device gets through in a second or so.
MOST_WORK = 3_000_000


class OnDevice:
    """The public names of nrc_fast, with features, targets and weights placed on a device.

    Parameters
    ----------
    package : module
    place : callable
        From a tensor of the host to one on the device.
    most_work : int
        Larger inputs skip the test.
    """

    def __init__(self, package: Any, place: Any, most_work: float) -> None:
        self._package, self._place, self._most_work = package, place, most_work
        outer = self

        class FeatureStatistics(package.FeatureStatistics):  # type: ignore[misc, name-defined]
            def update(self, H: Any, Y: Any = None) -> Any:
                return super().update(outer.placed(H), None if Y is None else outer.placed(Y))

        self.FeatureStatistics = FeatureStatistics

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)

    def nrc1(self, H: Any, *arguments: Any, **options: Any) -> Any:
        return self._package.nrc1(self.placed(H), *arguments, **options)

    def nrc2(self, H: Any, W: Any, **options: Any) -> Any:
        return self._package.nrc2(self.placed(H), self.placed(W), **options)

    def nrc3(self, W: Any, Y: Any = None, **options: Any) -> Any:
        return self._package.nrc3(self.placed(W), self.placed(Y), **options)

    def measure(self, H: Any, Y: Any = None, W: Any = None, b: Any = None, **options: Any) -> Any:
        return self._package.measure(*map(self.placed, (H, Y, W, b)), **options)

    def placed(self, values: Any) -> Any:
        """What the device can hold there, batches one by one, and anything else as it is."""
        import torch

        if isinstance(values, np.ndarray) and values.dtype.newbyteorder("=").name in ("float64", "float32", "float16"):
            if isinstance(values, np.ma.MaskedArray):
                return values
            values = torch.from_numpy(np.array(values.astype(values.dtype.newbyteorder("="))))
        if type(values) is torch.Tensor and values.device.type == "cpu" and values.is_floating_point():
            self._require_little_work(values.shape)
            return self._place(values)
        if isinstance(values, Iterator):
            return map(self.placed, values)
        if isinstance(values, (list, tuple)) and values and hasattr(values[0], "shape"):
            return type(values)(map(self.placed, values))
        return values

    def _require_little_work(self, shape: Any) -> None:
        if len(shape) == 2 and shape[0] * max(shape[1], 64) ** 2 > self._most_work:
            pytest.skip(f"{tuple(shape)} is large for an emulated device")


def device_package(name: str, core: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """nrc_fast on the CPU, on the emulated device or on a card."""
    import nrc_fast

    if name == "cpu":
        return nrc_fast
    if name == "card":
        core.Card()
        return OnDevice(nrc_fast, lambda tensor: tensor.cuda(), np.inf)
    from nrc_fast.kernels.cuda import device as cuda_device

    device = core.Emulation().device()
    monkeypatch.setattr(cuda_device, "cuda_device", lambda index: device)  # noqa: ARG005
    kind = core.emulated_tensors()
    return OnDevice(nrc_fast, lambda tensor: tensor.clone().as_subclass(kind), MOST_WORK)
