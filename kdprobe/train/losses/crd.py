"""Tell the teacher's view of an image from its views of others, and the other way round.

    L = over both networks:  mean over images of
        softplus(c - u+) + sum over N negatives of softplus(u- - c)          c = log(N / M)
    u = g_s(f_s) . g_t(f_t) / tau - log Z                                    M training images

which is -log h of the positive pair and -log(1 - h) of the negatives, h = P / (P + N / M), P =
exp(u). The embeddings g, of length 1, are trained along. What the other network shows is read from
a memory of all training images, in which each image seen is moved: m <- m/2 + g/2, over its length.
Z, so that P has mean 1/M, is taken from the first batch and kept, as released code has it.

The N negatives of a step, none twice, are shared by its images, but for the image itself; released
code draws N for each, of other labels. So a step reads N d numbers of memory and not n N d, and the
mean is the same. Memories, embeddings and Z are saved beside the student: 2 M d numbers, 51 MB for
50,000 images. Under distributed training each process has memories of its own, and writes what it
was shown. The usual weight is .8.

On a CPU it costs 7 to 14% of a ResNet-20 step at batch 128, because 16384 negatives are compared
with each image by either network: 4 n N d multiplications there and back. With 1024 it is 1 to 2%.

Source: Tian, Krishnan and Isola 2020, arXiv:1910.10699, section 3.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses._layers import introduce, names, one_pair, positive, rows, unit
from kdprobe.train.losses.contract import Batch, Outputs, loss


@loss(
    "crd",
    title="Contrastive representation distillation",
    source="arXiv:1910.10699, section 3",
    needs_teacher=True,
    zero_at_teacher=False,
)
class CRD(nn.Module):
    """Embeddings of `dim` numbers, temperature `tau`, at most `negatives`, `momentum` of memory."""

    memory: Tensor  # (2, M, d) of student and teacher
    log_z: Tensor  # (2,) of student against memory of teacher and the reverse; NaN before the first

    def __init__(
        self,
        *,
        layer: str = "pooled",
        dim: int = 128,
        tau: float = 0.07,
        negatives: int = 16384,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        self.pairs = one_pair(layer)
        self.layers, self.teacher_layers = names(self.pairs)
        self.dim, self.negatives = _whole("dim", dim), _whole("negatives", negatives)
        self.tau = positive("tau", tau)
        if isinstance(momentum, (str, bool)) or not 0 <= momentum < 1:
            raise InputError(f"found momentum={momentum}; wanted 0 or more, and below 1")
        self.momentum = float(momentum)
        self.embeddings = nn.ModuleList()
        self._known = -1  # version of log_z that is known to hold no NaN

    def meet(self, student: Outputs, teacher: Outputs) -> None:
        """Make embeddings and memories. Raises InputError where the batch is not known."""
        total = student.seen("crd").total
        if total < 2:
            raise InputError(
                f"found {total} training image; 'crd' wants others to tell it from: use more images"
            )
        both = rows(student, teacher, self.pairs[0])
        here, kind = both[0].device, both[0].dtype
        self.embeddings.extend(nn.Linear(x.shape[1], self.dim).to(here, kind) for x in both)
        self.register_buffer("memory", unit(torch.randn(2, total, self.dim)).to(here, kind))
        self.register_buffer("log_z", torch.full((2,), math.nan, device=here, dtype=kind))

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """The layer (n, ...) of both -> scalar, nats; the labels are not looked at.

        In training mode the memories move. Raises InputError where the batch is not known.
        """
        batch = student.seen("crd")
        if not len(self.embeddings):
            introduce(self.meet, student, teacher)
        both = rows(student, teacher, self.pairs[0])
        views = [unit(embed(x)) for embed, x in zip(self.embeddings, both, strict=True)]
        seen = batch.rows.to(self.memory.device)
        drawn, spare = self._drawn(batch, seen)
        found = []
        for place, view in enumerate(views):
            other, sharp = self.memory[1 - place], view / self.tau
            positive = (sharp * other[seen]).sum(1, keepdim=True)
            against = sharp @ other.index_select(0, drawn).mT
            self._know_z(place, against.detach().scatter(1, spare, positive.detach()))
            found.append(self._contrast(place, positive, against, spare))
        self._known = self.log_z._version
        if self.training:
            self._remember(views, seen)
        return torch.stack(found).sum()

    def _drawn(self, batch: Batch, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(N + 1,) images, no one twice, and for each of the batch (n, 1) which of them to leave:
        itself, or where it was not drawn the last. So each has N others, all equally likely.
        """
        many = min(self.negatives, batch.total - 1)
        drawn = torch.randperm(batch.total, generator=batch.chance("negatives of crd"))
        drawn = drawn[: many + 1].to(seen.device)
        place = torch.full((batch.total,), many, device=seen.device)
        place[drawn] = torch.arange(many + 1, device=seen.device)
        return drawn, place[seen, None]

    def _know_z(self, place: int, exponents: Tensor) -> None:
        """Set log Z from the first batch's exponents (n, N + 1), where none was set or loaded."""
        if self._known == self.log_z._version:  # nobody put another one there, such as a state
            return
        mean = exponents.flatten().logsumexp(0) - math.log(exponents.numel())
        fresh = mean + math.log(self.memory.shape[1])
        self.log_z[place] = torch.where(self.log_z[place].isnan(), fresh, self.log_z[place])

    def _contrast(self, place: int, positive: Tensor, against: Tensor, spare: Tensor) -> Tensor:
        """Exponents (n, 1) and (n, N + 1), of which `spare` is left out -> scalar."""
        many = against.shape[1] - 1
        level = math.log(many / self.memory.shape[1]) + self.log_z[place]
        far = F.softplus(against - level)
        near = F.softplus(level - positive)
        return (near + far.sum(1, keepdim=True) - far.gather(1, spare)).mean()

    @torch.no_grad()
    def _remember(self, views: list[Tensor], seen: Tensor) -> None:
        """Move the memory of the images (n,) towards what was seen of them."""
        for memory, view in zip(self.memory, views, strict=True):
            memory[seen] = unit(self.momentum * memory[seen] + (1 - self.momentum) * view)


def _whole(knob: str, found: int) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(f"found {knob}={found}; wanted a whole number of at least 1")
    return found
