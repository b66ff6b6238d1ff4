"""What the linear model says of a series of which some is known: the exact law of what is not, if data were Gaussian.

A series is ``x = μ + D r`` with ``D`` the decode of whitened rows ``r`` (tokens over ``Λ``, in which the noise of
diffusion is white), and the training set says ``r ~ N(0, Q diag(p) Qᵀ)``. Anything linear that is known of it, as are
values at some steps, is ``y = A r``, and where ``r`` is Gaussian with mean ``m`` and covariance ``C = Q diag(c) Qᵀ``,
its mean given ``y`` is the textbook's (Bishop, "Pattern Recognition and Machine Learning" (2006), section 2.3)

    m + C Aᵀ (A C Aᵀ + τ²)⁻¹ (y - A m).

Three choices of ``c`` are used: the training variance ``p`` (the conditional law itself, and the linear baseline
that every method has to beat); the variance ``p σ² / (α² p + σ²)`` that is left once a noisy series is known, too
(guidance); and 1, the noise's own metric, in which the nearest row that agrees with ``y`` is found (projection).

A mask is diagonal over time and in no other coordinates, so ``A`` couples all of them: there is one system to solve
for each mask, whose rows are solved together.
"""

from lightning_freqdiff.conditional.blocks import Block
from lightning_freqdiff.conditional.law import Gaussian, Known, gaussian_of

__all__ = ["Block", "Gaussian", "Known", "gaussian_of"]
