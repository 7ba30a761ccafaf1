"""Makes an expression smaller without changing what it allows, over any columns whatever."""

from transfuse.masks.algebra import And, Constant, Delta, Mask, Not, Or, full, none


def simplify(mask: Mask) -> Mask:
    """An equal rule with no constant inside, no double negation, no repeated and no absorbed term.

    >>> from transfuse import masks
    >>> str(masks.simplify(masks.parse("same(doc) & (le(idx) | le(idx) | none) & ~~k.text")))
    'same(doc) & le(idx) & k.text'
    """
    if isinstance(mask, Not):
        return _negated(simplify(mask.term))
    if isinstance(mask, And):
        return _joined(And, mask.terms, neutral=full, absorbing=none)
    if isinstance(mask, Or):
        return _joined(Or, mask.terms, neutral=none, absorbing=full)
    return mask


def _negated(term: Mask) -> Mask:
    if isinstance(term, Not):
        return term.term
    if isinstance(term, Constant):
        return none if term.value else full
    if isinstance(term, Delta) and term.hi is None and term.lo is not None:
        return Delta(term.column, None, term.lo - 1, term.key)
    if isinstance(term, Delta) and term.lo is None and term.hi is not None:
        return Delta(term.column, term.hi + 1, None, term.key)
    return Not(term)


def _joined(kind: type[And] | type[Or], terms: tuple[Mask, ...], neutral: Mask, absorbing: Mask) -> Mask:
    """One level of `&` or `|`: the two differ only in which constant vanishes and which takes all."""
    other = Or if kind is And else And
    kept: list[Mask] = []
    for term in map(simplify, terms):
        for part in term.terms if isinstance(term, kind) else (term,):
            if part != neutral and part not in kept:
                kept.append(part)
    if absorbing in kept or any(_negated(term) in kept for term in kept):
        return absorbing
    # a & (a | b) is a; a | (a & b) is a.
    kept = [t for t in kept if not (isinstance(t, other) and any(part in kept for part in t.terms))]
    if not kept:
        return neutral
    return kept[0] if len(kept) == 1 else kind(tuple(kept))
