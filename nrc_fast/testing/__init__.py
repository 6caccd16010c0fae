"""Plain float64 references, written from the definitions and shipped with the package.

They are slow, hold everything in memory and share no code with the rest of nrc_fast: what the fast routines
say can be checked against them, here and by users. Rows are samples: features are (N, d), weights (n, d),
targets (N, n). Inputs may be numpy arrays or torch CPU tensors of any floating dtype; they are never changed.

Definitions: arXiv 2409.04180 (NeurIPS 2024), section 3.1, with five conventions for NRC1 and NRC2.

==============  ======================  ====================================
convention      basis of NRC1           rows that are projected
==============  ======================  ====================================
``nrc24``       PCs of centred rows     h / |h|
``id25``        PCs of centred rows     (h - mean) / |h - mean|
``raw``         PCs of centred rows     h
``uncentered``  PCs of rows as given    h / |h|
``variance``    PCs of centred rows     h - mean, over the total variance
==============  ======================  ====================================
"""

from nrc_fast.testing.features import reference_gram, reference_nrc1, reference_nrc2, reference_residuals
from nrc_fast.testing.heads import reference_nrc3, reference_nrc3_gamma
from nrc_fast.testing.minima import ufm_optimum
from nrc_fast.testing.rows import reference_rows

__all__ = [
    "reference_gram",
    "reference_nrc1",
    "reference_nrc2",
    "reference_nrc3",
    "reference_nrc3_gamma",
    "reference_residuals",
    "reference_rows",
    "ufm_optimum",
]
