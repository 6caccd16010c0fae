"""Two data sets, and what other packages and the paper's authors' code say about them, in float64.

The numbers come from running the functions of glbreeze/Regression, nc-toolbox and the Deep NRC code on these
inputs, except NRC3, which is evaluated from the paper's formula. M = 200 rows, d = 16, n = 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Peer(NamedTuple):
    """Inputs, numbers that identify them, and what is known about them."""

    features: FloatArray
    weights: FloatArray
    targets: FloatArray
    checks: dict[str, float]
    numbers: dict[str, float]
    target_eigenvalues: list[float]  # ascending
    explained_variance_ratio: list[float]


def gaussian() -> Peer:
    """Input A: independent normal numbers, nothing collapsed."""
    rng = np.random.default_rng(0)
    features, weights, targets = (rng.standard_normal(shape) for shape in ((200, 16), (3, 16), (200, 3)))
    return Peer(
        features,
        weights,
        targets,
        checks={"H": -91.2767511473783, "W": 5.812403838878774, "Y": 10.442288921856818},
        numbers={
            "nrc1": 0.7435598041857225,
            "nrc1_uncentered": 0.7429731979712243,
            "nrc1_raw": 11.754407142127915,
            "nrc1_variance": 0.7321566553498962,
            "nrc2": 0.8103775100242242,
            "nrc2_raw": 13.014724168037114,
            "nrc3": 0.32261165704704203,
            "nrc3_at_0.01": 0.3317079225933072,
            "nrc3_at_0.1": 0.36157295430379793,
            "nrc3_at_lambda_min": 1.0360944815470472,
            "stable_rank": 6.626827461350019,
            "cka": 0.02243613924628609,
            "stationary_root": 1.1709690210743802,  # of NRC3 as a function of gamma^(1/2); here a maximum
        },
        target_eigenvalues=[0.7514037673066379, 1.0590312418717622, 1.1206437245174488],
        explained_variance_ratio=[0.10078477751544915, 0.08654109290596179, 0.080517474228693],
    )


def half_collapsed() -> Peer:
    """Input B: non-negative features of rank 3 with noise, far from the origin."""
    rng = np.random.default_rng(0)
    latent, mixing = rng.standard_normal((200, 3)), rng.standard_normal((3, 16))
    features = np.maximum(latent @ mixing + 0.5, 0.0) + 0.05 * rng.standard_normal((200, 16))
    targets = latent @ np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-0.3, 0.2, 0.7]]).T + [1.0, -2.0, 0.5]
    weights = 0.1 * mixing + 0.01 * rng.standard_normal((3, 16))
    return Peer(
        features,
        weights,
        targets,
        checks={"H": 3012.261213865724, "W": -0.20071891341348436, "Y": -111.86542025049908},
        numbers={
            "nrc1": 0.4942241658867151,
            "nrc1_uncentered": 0.12246717898408012,
            "nrc1_raw": 17.003272737525506,
            "nrc1_variance": 0.1344903241043406,
            "nrc2": 0.5136801201567498,
            "nrc2_raw": 17.98333102946953,
            "nrc3": 0.21756419455421253,
            "nrc3_at_0.01": 0.21922192651744915,
            "nrc3_at_0.1": 0.23795543176277906,
            "nrc3_at_lambda_min": 0.3432589235549096,
            "stable_rank": 1.3792760864572122,
            "cka": 0.7960492198012918,
            "stationary_root": -0.030406375391421544,
        },
        target_eigenvalues=[0.31495280725154595, 0.8785527578838117, 1.7068440221526906],
        explained_variance_ratio=[0.4888017794918255, 0.26928253840740735, 0.10742535799642634],
    )
