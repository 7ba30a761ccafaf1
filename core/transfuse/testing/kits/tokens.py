"""What holds of a TokenModality: its ids, its loss, and how it chooses the next one."""

import numpy as np
import torch
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import TokenModality
from transfuse.testing.kits.modality_case import ModalityCase, seeds
from transfuse.testing.kits.raw_case import shown
from transfuse.testing.kits.runner import Kit, LeftOut, close, expect, global_randomness_untouched

TOKENS: Kit[ModalityCase] = Kit("modality")
MOST = 32  # payloads, of which ids are drawn in the shape


def _codes(at: ModalityCase) -> int:
    return int(seam.call(at.modality, "codes"))


def _logits(at: ModalityCase, n: int = 5) -> Tensor:
    return torch.randn(n, _codes(at), generator=seeds(1)[0])


def _targets(at: ModalityCase, n: int = 5) -> Tensor:
    return torch.arange(n) % _codes(at)


def _score(at: ModalityCase, logits: Tensor, targets: Tensor) -> Tensor:
    assert isinstance(at.modality, TokenModality)
    return seam.score(at.modality, logits, targets).sum.reshape(())


def _chosen(at: ModalityCase, logits: Tensor, seed: int = 0) -> int:
    assert isinstance(at.modality, TokenModality)
    views = 1 + len(seam.call(at.modality, "views"))
    return seam.choose(at.modality, logits.expand(views, -1), seeds(1, seed)[0], 1.0)


@TOKENS.check("change encode so that ids are whole numbers from 0 to codes - 1", of=TokenModality)
def ids_are_within_the_vocabulary(at: ModalityCase) -> None:
    """Payloads are ids of its own range."""
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        whole = payload.dtype.kind in "iu"
        expect(whole, f"encode gave {payload.dtype} of {shown(raw)}, and ids are whole numbers")
        low, high = int(payload.min()), int(payload.max())
        expect(low >= 0 and high < _codes(at), f"encode gave ids {low} … {high}, and codes is {_codes(at)}")


@TOKENS.check("change codes so that it is one number from fit or restore on", of=TokenModality)
def codes_are_fixed(at: ModalityCase) -> None:
    """codes is the same number before raw data are encoded and after: the vocabulary rests on it."""
    fresh = at.fit(at.unfit())
    one = int(seam.call(fresh, "codes"))
    for raw in at.raws:
        seam.payload(fresh, "encode", raw)
    two = int(seam.call(fresh, "codes"))
    expect(one == two, f"codes was {one}, and {two} when raw data had been encoded")


@TOKENS.check(
    "change spans so that the ids of an item stand in its spans in order, none left out", of=TokenModality
)
def spans_hold_all_ids(at: ModalityCase) -> None:
    """Every id of the payload stands in a span."""
    for payload in at.payloads:
        laid = np.concatenate([span.payload for span in at.spans(payload)])
        expect(
            np.array_equal(laid, payload.reshape(-1)),
            f"{payload.size} ids are laid out as {laid.size} others",
        )


@TOKENS.check(
    "change decode so that it gives what encode takes whatever the ids are, or raises TransfuseError: "
    "any ids may be sampled",
    of=TokenModality,
)
def whatever_is_sampled_is_decoded(at: ModalityCase) -> None:
    """Of ids drawn evenly, as an untrained model draws them, decode gives raw data, or says why there are none."""
    rng = np.random.default_rng(0)
    for payload in [*at.payloads[:MOST], *(seam.payload(at.modality, "blank", label) for label in at.labels)]:
        ids = rng.integers(0, _codes(at), payload.shape, payload.dtype)
        seen = f"of sampled ids {ids.reshape(-1)[:8].tolist()} it gave"
        try:
            raw = at.modality.decode(ids)
        except TransfuseError:
            continue
        with seam.at(f"{seen} {shown(raw)}, and encode said"):
            seam.payload(at.modality, "encode", raw)


@TOKENS.check(
    "change objective so that it returns a finite sum, with the number of ids as its count", of=TokenModality
)
def the_loss_of_ids_is_finite_and_counted(at: ModalityCase) -> None:
    """The loss is finite, not negative, and its count is the number of targets."""
    loss = float(_score(at, _logits(at), _targets(at)))
    expect(0 <= loss < float("inf"), f"a loss of {loss}")


@TOKENS.check(
    "change objective so that ids that may not stand there, whose logit is -inf, cost no NaN",
    of=TokenModality,
)
def forbidden_ids_cost_no_nan(at: ModalityCase) -> None:
    """Logits of -inf at other ids than the target leave the loss finite."""
    logits, targets = _logits(at), _targets(at)
    wide = torch.cat([logits, torch.full((len(logits), 2), -torch.inf)], dim=1)
    loss = float(_score(at, wide, targets))
    expect(abs(loss) < float("inf"), f"a loss of {loss} where an id may not be predicted yet")


@TOKENS.check("change objective so that it adds up over ids: reduction='sum'", of=TokenModality)
def losses_add_up_over_ids(at: ModalityCase) -> None:
    """The loss of n ids is the sum of the losses of each."""
    logits, targets = _logits(at), _targets(at)
    whole = _score(at, logits, targets)
    parts = torch.stack(
        [_score(at, logits[i : i + 1], targets[i : i + 1]) for i in range(len(targets))]
    ).sum()
    expect(close(whole, parts), f"{float(whole):.4g} for all ids, and {float(parts):.4g} one by one")


@TOKENS.check("change objective so that it compares each row of logits with its own target", of=TokenModality)
def likelier_targets_cost_less(at: ModalityCase) -> None:
    """A higher logit at any of the targets lowers the loss."""
    logits, targets = _logits(at), _targets(at)
    before = float(_score(at, logits, targets))
    for i, target in enumerate(targets.tolist()):
        raised = logits.clone()
        raised[i, target] += 1
        after = float(_score(at, raised, targets))
        expect(after < before, f"a loss of {before:.4g}, and {after:.4g} where target {i} is likelier")


@TOKENS.check("change objective so that every logit enters it without detach", of=TokenModality)
def the_loss_heeds_all_logits(at: ModalityCase) -> None:
    """The loss has a gradient of every row of logits."""
    logits = _logits(at).requires_grad_()
    (grad,) = torch.autograd.grad(_score(at, logits, _targets(at)), logits)
    deaf = [i for i in range(len(grad)) if not grad[i].any()]
    expect(not deaf, f"the logits of ids {deaf} change nothing of the loss")


@TOKENS.check("change choose so that it returns an id whose logit is not -inf", of=TokenModality)
def what_is_forbidden_is_not_chosen(at: ModalityCase) -> None:
    """Of logits of which all but one are -inf, that one is chosen."""
    for id in {0, _codes(at) - 1}:
        logits = torch.full((_codes(at),), -torch.inf)
        logits[id] = 0.3
        found = {_chosen(at, logits, seed) for seed in range(24)}
        expect(found == {id}, f"choose gave {sorted(found)}, and {id} alone may stand there")


@TOKENS.check("change choose so that it works on a copy of the logits", of=TokenModality)
def choosing_leaves_logits_as_they_are(at: ModalityCase) -> None:
    """choose writes nothing into the logits."""
    assert isinstance(at.modality, TokenModality)
    logits = _logits(at, 1 + len(seam.call(at.modality, "views")))
    kept = logits.clone()
    seam.choose(at.modality, logits, seeds(1)[0], 1.0)
    expect(logits.equal(kept), "choose changed the logits in place")


@TOKENS.check("change choose so that it reads the logits of its views, by guidance.mix", of=TokenModality)
def choices_heed_the_views(at: ModalityCase) -> None:
    """Other logits of the views, other ids."""
    assert isinstance(at.modality, TokenModality)
    views = len(seam.call(at.modality, "views"))
    if not views:
        raise LeftOut("it compares with no views")
    whole = _logits(at, 1)
    given = [torch.cat([whole, (scale * whole).expand(views, -1)]) for scale in (1.0, 9.0)]
    chosen = [[seam.choose(at.modality, x, seeds(1, i)[0], 1.0) for i in range(24)] for x in given]
    expect(chosen[0] != chosen[1], "whatever the views' logits are, the same ids are chosen")


@TOKENS.check("change choose so that all it draws comes from the generator", of=TokenModality)
def choosing_is_fixed_by_its_generator(at: ModalityCase) -> None:
    """Equal generators, equal ids, whatever was chosen before; nothing is drawn from a global random state."""
    logits = 0.1 * _logits(at, 1)[0]
    with global_randomness_untouched():
        one, two = (
            {seed: _chosen(at, logits, seed) for seed in order} for order in (range(8), range(7, -1, -1))
        )
    expect(one == two, "generators of equal seeds chose other ids")


@TOKENS.check(
    "change choose_each so that it gives each document what choose would, from its own generator",
    of=TokenModality,
)
def choosing_at_once_is_choosing_one_by_one(at: ModalityCase) -> None:
    """Many documents' ids at once are those of each by itself."""
    assert isinstance(at.modality, TokenModality)
    logits = _logits(at, 4)
    views = 1 + len(seam.call(at.modality, "views"))
    each = [_chosen(at, one, seed) for seed, one in enumerate(logits)]
    found = seam.choose_each(at.modality, logits[:, None].expand(4, views, -1), seeds(4), 1.0)
    expect(found.tolist() == each, f"choose_each gave {found.tolist()}, and choose {each}")


@TOKENS.check("change choose so that a likelier id is chosen more often", of=TokenModality)
def likely_ids_are_chosen(at: ModalityCase) -> None:
    """An id that is far likelier than all others is what is chosen."""
    for id in {0, _codes(at) // 2, _codes(at) - 1}:
        logits = torch.zeros(_codes(at))
        logits[id] = 1000.0
        found = _chosen(at, logits)
        expect(found == id, f"choose gave {found}, and {id} is likelier by a factor of e^1000")
