"""The order in which samples are overwritten in place."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mixup.functional._rows import write_order


@given(st.integers(1, 12).flatmap(lambda n: st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
@settings(max_examples=200, deadline=None)
def test_write_order_never_reads_an_overwritten_row(partner: list[int]) -> None:
    content: list = list(range(len(partner)))
    stash, stash_for = None, None
    for write in write_order(partner):
        if write.stash_for is not None:
            assert stash is None
            stash, stash_for = content[write.row], write.stash_for
        if write.source is None:
            assert stash_for == write.row
            content[write.row], stash = ("from", stash), None
        else:
            content[write.row] = ("from", content[write.source])
    assert content == [("from", source) for source in partner]
