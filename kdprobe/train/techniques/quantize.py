"""When does a network begin to round?  While it trains, or when training is over.

aware            rounds from epoch `start` on, so that the rest of the training mends what it breaks
post-training    ``after=true``: trains unrounded, and rounds in the last checkpoint only

The rounding itself is the transform ``fake_quant(weights=8, activations=8)`` of the network's entry
(`kdprobe/models/transforms/fake_quant.py`). Ranges of inputs are learnt from the batches of
training, whether it rounds or not, up to epoch `freeze`; after training, they are the moving
averages over its last batches, so that no images are needed to calibrate.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1 (ranges by moving averages; rounding of
inputs delayed until they are steady); Krishnamoorthi 2018, arXiv:1806.08342, section 3 (post-
training against aware).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models.transforms.fake_quant import layers, observe, switch
from kdprobe.train.techniques.contract import moment, must_come, technique


@technique(
    "quantize",
    title="The moment at which a network begins to round",
    source="Jacob et al. 2018, arXiv:1712.05877, section 3.1; arXiv:1806.08342, section 3",
)
class Quantize:
    """Rounds from epoch `start`, with ranges that stand still from `freeze`; or only `after`."""

    def __init__(
        self, *, start: float = 0.0, freeze: float | None = None, after: bool = False
    ) -> None:
        if not isinstance(after, bool):
            raise InputError(f"found after={after!r}; wanted true or false")
        self.start, self.after = moment("start", start), after
        self.freeze = None if freeze is None else moment("freeze", freeze)
        if self.freeze == 0:
            raise InputError("found freeze=0, so ranges would never be seen; wanted above 0")
        if after and (start or freeze is not None):
            raise InputError(
                "found after=true with start or freeze; wanted one of the two: rounding after "
                "training begins at its end"
            )
        self._now: tuple[bool, bool] | None = None

    def attach(self, body: nn.Module) -> None:
        """Switch `body` as before the first step. Raises InputError where it cannot round."""
        list(layers(body))
        switch(body, not self.after and self.start == 0)
        observe(body, True)

    def before_step(self, body: nn.Module, passed: float, total: int) -> None:
        """Switch what is due. Raises InputError where start is after the last epoch."""
        must_come("start", self.start, total)
        on = passed >= (total if self.after else self.start)
        look = self.freeze is None or passed < self.freeze
        if (on, look) != self._now:
            switch(body, on)
            observe(body, look)
            self._now = (on, look)

    def plain(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state itself: the entry names the transform, so its keys are the entry's."""
        return state

    def facts(self, body: nn.Module) -> dict[str, Any]:
        """Whether it rounds."""
        return {"rounds": bool(next(layers(body)).on)}
