"""Data of any kind, one number after the other: p(x | theta) = prod_i p(x_i | x_1 ... x_{i-1}, theta).

One masked network (Germain et al., MADE, arXiv:1502.03509, as zuko has it) gives the parameters of all factors:

    real, positive  a mixture of normals on the standardised scale
    count           the same mixture between the edges k - 1/2 and k + 1/2, brought to that scale; zero has all that
                    is below (as the mixtures of Salimans et al., arXiv:1701.05517)
    category        a softmax
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from zuko.nn import MaskedMLP

from nuppl.neural.fields import KINDS, Field
from nuppl.neural.standardize import Standardize

__all__ = ["Autoregressive"]

_FAR = 1e3
"""An edge so far below, in standard deviations, that nothing is under it."""

_NARROWEST = 1e-3
"""The smallest width of a component, in standard deviations of the column."""


class Autoregressive(nn.Module):
    """The network and the factors.

    Arguments:
        context: numbers that condition all factors.
        data: the fitted map of the data.
        components: of each mixture.
        width, depth: of the network.
    """

    def __init__(self, context: int, data: Standardize, components: int = 6, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.data = data
        self.components = components
        self.column_fields: Sequence[Field] = [field for field in data.fields for _ in range(field.size)]
        self.outputs = max(3 * components, *(field.labels for field in data.fields), 1)
        before = torch.ones(data.width, data.width).tril(-1).bool()
        allowed = torch.cat((torch.ones(data.width, context, dtype=torch.bool), before), -1)
        hidden = [max(width, context + data.width)] * depth
        self.network = MaskedMLP(allowed.repeat_interleave(self.outputs, 0), hidden, activation=nn.SiLU).float()

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        """The log density with shape (N,), float64, of data (N, X) in the users' units given a context (N, C)."""
        answers = self._answers(self.data(x), context)
        total = torch.zeros(len(x), dtype=torch.float64)
        start = 0
        for field in self.data.fields:
            columns = slice(start, start + field.size)
            total = total + self._factor(field, x[:, columns], answers[:, columns], columns).sum(-1)
            start += field.size
        return total

    def sample(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """One data set with shape (N, X), in the users' units, for each context with shape (N, C)."""
        x = torch.zeros(len(context), self.data.width, dtype=torch.float64)
        for column, field in enumerate(self.column_fields):
            # Columns to come are masked in the network, whatever stands there.
            answer = self._answers(self.data(x.clamp(min=1e-12) if self._logarithmic else x), context)[:, column]
            x[:, column] = self._draw(field, answer, column, generator)
        return x

    @property
    def _logarithmic(self) -> bool:
        return any(field.kind == "positive" for field in self.data.fields)

    def _answers(self, z: Tensor, context: Tensor) -> Tensor:
        flat: Tensor = self.network(torch.cat((context, z), -1))
        answers: Tensor = flat.unflatten(-1, (self.data.width, self.outputs))
        return answers

    def _mixture(self, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, loc, raw = answers[..., : 3 * self.components].double().split(self.components, -1)
        # Components start spread over the range of the data.
        spread = torch.linspace(-1.5, 1.5, self.components, dtype=torch.float64)
        return logits.log_softmax(-1), 2 * loc + spread, nn.functional.softplus(raw) + _NARROWEST

    def _factor(self, field: Field, x: Tensor, answers: Tensor, columns: slice) -> Tensor:
        if field.kind == "category":
            chosen = answers[..., : field.labels].double().log_softmax(-1)
            return chosen.gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
        weight, loc, scale = self._mixture(answers)
        if field.kind == "count":
            lower, upper = (self._edge(x + half, columns).unsqueeze(-1) for half in (-0.5, 0.5))
            lower = torch.where(x.unsqueeze(-1) > 0, lower, -_FAR)
            return torch.logsumexp(weight + _log_mass((lower - loc) / scale, (upper - loc) / scale), -1)
        y = (KINDS[field.kind].forward(x) - self.data.loc[columns]) / self.data.scale[columns]
        normal = torch.distributions.Normal(loc, scale, validate_args=False)
        slope = KINDS[field.kind].log_slope(x) - self.data.scale[columns].log()
        return torch.logsumexp(weight + normal.log_prob(y.unsqueeze(-1)), -1) + slope

    def _edge(self, x: Tensor, columns: slice) -> Tensor:
        root = KINDS["count"].forward(x.clamp(min=0))
        return (root - self.data.loc[columns]) / self.data.scale[columns]

    def _draw(self, field: Field, answer: Tensor, column: int, generator: torch.Generator) -> Tensor:
        if field.kind == "category":
            label: Tensor = torch.multinomial(answer[:, : field.labels].softmax(-1), 1, generator=generator)[:, 0]
            return label.double()
        weight, loc, scale = self._mixture(answer)
        chosen = torch.multinomial(weight.exp(), 1, generator=generator)
        noise = torch.randn(len(answer), generator=generator, dtype=torch.float64)
        z = loc.gather(1, chosen)[:, 0] + scale.gather(1, chosen)[:, 0] * noise
        y = z * self.data.scale[column] + self.data.loc[column]
        if field.kind == "count":
            return KINDS["count"].inverse(y.clamp(min=0)).round().clamp(min=0)
        return KINDS[field.kind].inverse(y)


def _log_mass(a: Tensor, b: Tensor) -> Tensor:
    """The log of Phi(b) - Phi(a) for a < b, without cancellation in either tail."""
    right = a > 0
    low, high = torch.where(right, -b, a), torch.where(right, -a, b)
    below, above = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    share: Tensor = -torch.expm1((below - above).clamp(max=-1e-14))
    mass: Tensor = above + share.log()
    return mass
