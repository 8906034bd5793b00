"""Which numbers of a metric can be compared, where do they stand, and which way is better?

Every quantity is declared once, in the list below: name (with ``*`` among the first to be shown),
direction, place in the metric's values, and what it is. A place is read from the left, below the
metric's ``runs/{run}``, or from the top when it begins with ``/``:

    {layer}              every key of an object (or field of every item of a list): a coordinate
    [layer:layers]       every item of a list, named by the list `layers` beside it
    [=layer:names]       of a list, the item whose name is that of the bound coordinate
    @headline            the item of a list whose number stands in the values under `headline`
    eigenvalues/0        an object's field, and a list's item
    place|mean           worked out of what stands there, by a function of `per_image.py`

A metric that is not listed here (of a third party) is read by itself: every number, and every
``value`` with its ``error``, that stands directly below its runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from kdprobe.comparing import per_image

Better = Literal["higher", "lower", "neither"]
DECLARED = """
[accuracy]
*accuracy             higher  accuracy  share of images named right
loss                  lower   loss  cross-entropy, nats
[fidelity]
*agreement            higher  agreement  share of images named as the teacher names them
copied_errors         neither agreement_when_teacher_wrong  share of the teacher's errors made alike
copied_beyond_chance  neither beyond_chance  share of the teacher's errors made alike, beyond chance
kl                    lower   kl  KL divergence from the teacher, nats
[calibration]
*ece                  lower   ece  expected calibration error
overconfidence        neither overconfidence  confidence minus accuracy
brier                 lower   brier  Brier score
nll                   lower   nll  negative log-likelihood, nats
temperature           neither temperature  temperature of the best likelihood
[exaggeration]
exaggeration          neither slope/value  slope of confidence over the teacher's
[forgetting]
forgetting_events     lower   events  forgetting events an image
never_right           lower   never_right  share of images never named right
learning_epoch        neither learning_epoch  epoch at which an image is learned, mean
[boundary]
boundary_distance     neither /networks/{run}/distance  distance to the decision boundary
[transferability]
transfer              neither transfer/value  share that the attack on the teacher fools
[concepts]
*N_fg                 higher  {layer}/foreground/@headline|mean  concepts on the object, an image
*N_bg                 lower   {layer}/background/@headline|mean  concepts off the object, an image
*lambda               higher  {layer}|share  share of the concepts that is on the object
auroc                 higher  {layer}/auroc|mean  object told from background by what is kept
[simultaneity]
*D_mean               lower   {layer}|walked  weight distance until concepts peak, mean over images
*D_var                lower   {layer}|walked_variance  the same, variance over images
[stability]
*rho                  higher  {layer}/ratio/@headline|mean  share of the concepts ever tried, kept
rho_persistent        higher  {layer}/persistent/@headline  rho of what most restarts find
[cka]
*cka                  neither cka/[layer:layers]/[=layer:teacher_layers]  CKA with the teacher
[settling]
settled               neither settled/[layer:layers]  epoch from which a layer stays alike its end
[similarity]
similarity            neither similarity/[measure:measures]/[layer:layers]  likeness to the teacher
[distilled]
fss                   neither /students/{run}/fss/[layer:layers]  similarity with the teacher
distilled             neither /students/{run}/distilled/[layer:layers]  classes in what is distilled
residual              neither /students/{run}/residual/[layer:layers]  classes in what is not
[dimension]
effective_rank        neither effective_rank/[layer:layers]  effective rank of the features
participation         neither participation/[layer:layers]  participation ratio of the features
two_nn                neither two_nn/[layer:layers]  intrinsic dimension by two neighbours
[reuse]
update                neither update/[block:blocks]  size of a block's update
[readout]
probe_accuracy        higher  accuracy/[layer:layers]  accuracy of a linear probe
[landscape]
*sharpness            neither sharpness  largest rise of the loss nearby, nats
line_curvature        neither curvature  curvature along random lines
roughness             neither roughness  roughness of random planes
negative_directions   neither negative  share of the plane with negative curvature
[trajectory]
path_length           neither length  length of the training's path
straightness          neither straightness  displacement over length of the path
[curvature]
*top_eigenvalue       neither eigenvalues/0  largest eigenvalue of the Hessian
*trace                neither trace  trace of the Hessian
negative_share        neither negative_share  share of the Hessian's spectrum below zero
layer_trace           neither layers/{layer}/trace  trace of the layer's block of the Hessian
[attributions]
map_agreement         neither {map}/correlation  rank correlation of maps with the teacher's
on_object             higher  {map}/mass  share of the relevance that is on the object
[concept_vectors]
tcav                  neither {layer}/{concept}/score  share of images that the concept speaks for
concept_accuracy      neither {layer}/{concept}/accuracy  accuracy of the concept's classifier
"""


@dataclass(frozen=True)
class Quantity:
    """A number that a metric gives for every run, at every layer or part."""

    metric: str
    name: str  # unique among all quantities
    better: Better
    place: str  # in the metric's values, from the top
    meaning: str
    leading: bool = False  # among the first to be shown
    take: Callable[[Any, int], float] | None = None  # of what stands there, and the headline's b


def _declared(text: str) -> Iterator[Quantity]:
    metric = ""
    for line in text.split("\n"):
        if line.startswith("["):
            metric = line.strip("[]")
        elif line:
            name, better, place, meaning = line.split(maxsplit=3)
            where, _, function = place.partition("|")
            yield Quantity(
                metric=metric,
                name=name.removeprefix("*"),
                better=cast(Better, better),
                place=where[1:] if where.startswith("/") else f"runs/{{run}}/{where}",
                meaning=meaning,
                leading=name.startswith("*"),
                take=per_image.FUNCTIONS[function] if function else None,
            )


QUANTITIES = tuple(_declared(DECLARED))
