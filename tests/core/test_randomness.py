"""Keyed draws: equal keys give equal draws, and a document's noise is its own wherever it is packed."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transfuse.documents import Item
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.packing import Packer
from transfuse.sequences.rows import Row, join
from transfuse.sequences.sequence import DocumentSequence
from transfuse.testing.modalities import Blob, Letters, document, layout

LAYOUT = layout(Letters(), Blob())
ids = st.lists(st.integers(-(2**62), 2**62), max_size=3)


@given(st.integers(0, 2**63 - 1), st.sampled_from(["noise", "order"]), ids)
def test_equal_keys_give_equal_draws(seed: int, stream: str, numbers: list[int]) -> None:
    a, b = Key(seed), Key(seed)
    assert a.number(stream, *numbers) == b.number(stream, *numbers)
    assert torch.equal(
        torch.randn(3, generator=a.generator(stream, *numbers)),
        torch.randn(3, generator=b.generator(stream, *numbers)),
    )
    assert a.rng(stream, *numbers).random() == b.rng(stream, *numbers).random()
    assert 0 <= a.uniform(stream, *numbers) < 1


def test_streams_ids_their_order_and_number_and_seeds_all_tell_draws_apart() -> None:
    drawn = [
        key.number(stream, *numbers)
        for key in (Key(0), Key(1))
        for stream in ("noise", "order", "sample")
        for numbers in ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (-1,))
    ]
    assert len(set(drawn)) == len(drawn)


def test_the_largest_number_is_still_below_1() -> None:
    class Last(Key):
        def number(self, stream: str, *ids: int) -> int:
            return (1 << 63) - 1

    assert Last(0).uniform("any") < 1


def test_draws_are_spread_evenly() -> None:
    values = np.array([Key(0).uniform("even", i) for i in range(4000)])
    counts, _ = np.histogram(values, bins=8, range=(0, 1))
    assert (abs(counts - 500) < 100).all()


def test_no_draw_touches_or_reads_the_global_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = noise(collate(join([sequence(0)]), LAYOUT.modalities, Key(0)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert noise(collate(join([sequence(0)]), LAYOUT.modalities, Key(0))) == first


# -- a document's noise


def sequence(id: int, visit: int = 0, text: str = "ab") -> DocumentSequence:
    """Two images of two shapes; the first one is context."""
    return LAYOUT.sequence(document([0.0, 1.0], text, [0.0, 1.0, 2.0], id=id), visit=visit)


def noise(batch: Batch) -> list[list[float]]:
    """Every span's corrupted values, in the order of their positions."""
    found = {
        int(index[0]): [float(t), *x_t.tolist()]
        for group in batch.groups
        for index, x_t, t in zip(group.index, group.x_t, group.t, strict=True)
    }
    return [found[start] for start in sorted(found)]


def by_sample(rows: list[Row], key: Key) -> dict[int, list[list[float]]]:
    found: dict[int, list[list[float]]] = {}
    for row in rows:
        for place, values in zip(row.spans, noise(collate(row, LAYOUT.modalities, key)), strict=True):
            found.setdefault(place.document, []).append(values)
    return found


@given(st.permutations(range(8)), st.integers(14, 60), st.integers(1, 6))
def test_a_documents_noise_is_the_same_in_any_row_and_any_company(
    order: list[int], budget: int, look_ahead: int
) -> None:
    rows = list(Packer(budget, look_ahead).rows(sequence(i) for i in order))
    alone = by_sample([join([sequence(i)]) for i in range(8)], Key(3))
    assert by_sample(rows, Key(3)) == alone
    assert len({str(values) for values in alone.values()}) == 8


def test_ranks_that_divide_the_rows_draw_the_same_noise() -> None:
    rows = list(Packer(30, 4).rows(sequence(i) for i in range(8)))
    divided = {**by_sample(rows[1::2], Key(3)), **by_sample(rows[0::2], Key(3))}
    assert divided == by_sample(rows, Key(3))


def test_two_visits_two_items_and_two_seeds_differ_and_validation_repeats() -> None:
    def drawn(seed: int, visit: int) -> list[list[float]]:
        return noise(collate(join([sequence(0, visit)]), LAYOUT.modalities, Key(seed)))

    first = drawn(0, visit=0)
    assert first == drawn(0, visit=0)
    for other in (drawn(0, visit=1), drawn(1, visit=0)):
        assert all(a != b for a, b in zip(first, other, strict=True))
    twice = LAYOUT.sequence(document([0.0, 1.0], Item("blob", [0.0, 1.0], loss=False)))
    a, b = noise(collate(join([twice]), LAYOUT.modalities, Key(0)))
    assert a != b


def test_what_a_document_says_besides_does_not_change_an_images_noise() -> None:
    longer = noise(collate(join([sequence(0, text="abcdefgh")]), LAYOUT.modalities, Key(0)))
    assert longer == noise(collate(join([sequence(0)]), LAYOUT.modalities, Key(0)))


def test_a_clean_batch_corrupts_nothing_and_predicts_no_span() -> None:
    batch = collate(join([sequence(0)]), LAYOUT.modalities, Key(0), clean=True)
    assert noise(batch) == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 2.0]]
    assert not any(group.loss.any() for group in batch.groups)
    assert batch.counts.keys() == {"letters"}
