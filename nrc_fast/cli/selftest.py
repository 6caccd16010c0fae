"""Does this installation compute right numbers? Every instruction set against the float64 references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nrc_fast import kernels
from nrc_fast.measurement.alignment import nrc3
from nrc_fast.measurement.single_metrics import nrc1, nrc2
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3, ufm_optimum

__all__ = ["Check", "run_selftest"]

ROWS, FEATURES, OUTPUTS = 3000, 37, 3


@dataclass(frozen=True)
class Check:
    """One number against its reference.

    Attributes
    ----------
    name : str
    isa : str
    error : float
        Relative to the reference, absolute where that is 0.
    allowed : float
    """

    name: str
    isa: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is no larger than what is allowed."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return f"{verdict:<8}{self.isa:<20}{self.name:<28}error {self.error:.1e} <= {self.allowed:.0e}"


def run_selftest() -> list[Check]:
    """Measure small collapsed and uncollapsed features on every instruction set of this machine.

    Returns
    -------
    list of Check

    Examples
    --------
    >>> all(check.passed for check in run_selftest())
    True
    """
    before = kernels.current_isa()
    checks = []
    try:
        for isa in kernels.available_isas():
            kernels.set_isa(isa)
            checks += [Check(name, isa, error, allowed) for name, error, allowed in _checks()]
    finally:
        kernels.set_isa(before)
    return checks


def _checks() -> Iterator[tuple[str, float, float]]:
    rng = np.random.default_rng(0)
    latent, W = rng.standard_normal((ROWS, OUTPUTS)), rng.standard_normal((OUTPUTS, FEATURES))
    for noise, kind in ((1.0, ""), (1e-5, ", collapsed")):
        rows = latent @ W + noise * rng.standard_normal((ROWS, FEATURES))
        for dtype, allowed in ((np.float64, 1e-9), (np.float32, 1e-5), (np.float16, 1e-5)):
            H = rows.astype(dtype)
            name = np.dtype(dtype).name + kind
            yield f"NRC1 {name}", _relative(nrc1(H, OUTPUTS), reference_nrc1(H, OUTPUTS)), allowed
            yield f"NRC2 {name}", _relative(nrc2(H, W), reference_nrc2(H, W)), allowed
    yield "NRC3", _relative(nrc3(W, latent), reference_nrc3(W, latent)), 1e-9
    _, optimum, _, Y = ufm_optimum(latent, FEATURES, 0.1, 0.2)
    yield "NRC3 at a UFM minimum", nrc3(optimum, Y), 1e-12


def _relative(value: float, reference: float) -> float:
    return abs(value - reference) / abs(reference) if reference else abs(value)
