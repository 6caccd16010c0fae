"""NRC in torch: operators and loss terms with gradients, for tensors on any device that has kernels."""

from nrc_fast.base.listing import listing
from nrc_fast.torch_ops.functions import gram, nrc1_loss, nrc2_loss, principal_basis, residual

__all__ = ["gram", "nrc1_loss", "nrc2_loss", "principal_basis", "residual"]

__dir__ = listing(__name__, __all__)
