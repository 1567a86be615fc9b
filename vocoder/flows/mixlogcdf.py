"""The logit of a mixture-of-logistics distribution function, as an elementwise bijection.

Source: Flow++ (ICML 2019), §3.2; the order of shift and scale is that of visinf/mar-scf.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Every root seen takes at most 25; the loop ends with the last one found.
_MAX_EVALUATIONS = 60


@dataclass(frozen=True)
class MixLogCdf:
    """z = (logit F(x) + shift) · exp(log_scale), F the distribution function of K logistics.

    params = (log_scale, shift, K mixture logits, K means, K log-scales) along axis 1. With all of
    them zero the map is the identity, since the logit undoes the one logistic that is left.

    F and 1 − F are never formed: near 0 and 1 they round, and a logit taken of them reports
    log-derivatives that are tens of nats wrong. Their logarithms are exact in both tails.
    """

    n_components: int = 32
    # exp(−7) is the published floor. Between components so narrow the density is nearly zero, and x
    # cannot be told from z in single precision, although the z of the x returned is right.
    min_log_scale: float = -7.0

    @property
    def n_params(self) -> int:
        """Two of the affine part, three per component."""
        return 2 + 3 * self.n_components

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log|dz/dx|."""
        log_scale, shift, mixture = self._split(params)
        y, log_slope = mixture.logit(x)
        return (y + shift) * log_scale.exp(), log_slope + log_scale

    def inverse(self, z: Tensor, params: Tensor) -> Tensor:
        """Return x, differentiable in z and in params."""
        log_scale, shift, mixture = self._split(params)
        return mixture.inverse_logit(z * (-log_scale).exp() - shift)

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, LogisticMixture]:
        K = self.n_components
        log_scale, shift, logits, means, log_scales = params.split([1, 1, K, K, K], dim=1)
        mixture = LogisticMixture(
            logits.log_softmax(dim=1), means, log_scales.clamp(min=self.min_log_scale)
        )
        return log_scale.squeeze(1), shift.squeeze(1), mixture


@dataclass(frozen=True)
class LogisticMixture:
    """K logistic distributions for each element, every field (B, K, ...)."""

    log_weights: Tensor  # normalised over axis 1
    means: Tensor
    log_scales: Tensor

    def logit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln F(x) − ln(1 − F(x)) and the logarithm of its derivative, of x's shape."""
        u = (x.unsqueeze(1) - self.means) * (-self.log_scales).exp()
        log_below = F.logsigmoid(u)
        log_above = log_below - u  # = logsigmoid(−u)
        below = (self.log_weights + log_below).logsumexp(dim=1)
        above = (self.log_weights + log_above).logsumexp(dim=1)
        density = (self.log_weights - self.log_scales + log_below + log_above).logsumexp(dim=1)
        return below - above, density - below - above

    def inverse_logit(self, y: Tensor) -> Tensor:
        """Return the x whose logit is y, differentiable in y and in the mixture."""
        with torch.no_grad():
            x = self._root(y)
        if not torch.is_grad_enabled():
            return x
        # Implicit function theorem: add zero, with the gradient of a Newton step.
        logit, log_slope = self.logit(x)
        residual = logit - y
        return x - (residual - residual.detach()) * (-log_slope.detach()).exp()

    def _root(self, y: Tensor) -> Tensor:
        """Solve logit(x) = y by Newton steps within a bracket, to rounding.

        Each component alone would put the root at mean + scale · y. The mixture's F is an average
        of theirs, so its root lies between the least and the greatest of these: no clamps. A Newton
        step that leaves the bracket or does not shrink gives way to bisection.
        """
        eps = torch.finfo(y.dtype).eps
        roots = self.means + self.log_scales.exp() * y.unsqueeze(1)
        low, high = roots.amin(dim=1), roots.amax(dim=1)
        x = (self.log_weights.exp() * roots).sum(dim=1).clamp(low, high)
        last_step = high - low
        for _ in range(_MAX_EVALUATIONS):
            logit, log_slope = self.logit(x)
            residual = logit - y
            low, high = torch.where(residual <= 0, x, low), torch.where(residual >= 0, x, high)
            step = -residual * (-log_slope).exp()
            rounding = 2 * eps * x.abs()
            done = residual.abs() <= 8 * eps * (1 + y.abs())
            done |= (step.abs() <= rounding) | (high - low <= rounding)
            if done.all():
                break
            newton = x + step
            useful = (low <= newton) & (newton <= high) & (step.abs() <= 0.7 * last_step)
            next_x = torch.where(useful, newton, (low + high) / 2)
            next_x = torch.where(done, x, next_x)
            last_step, x = (next_x - x).abs(), next_x
        return x
