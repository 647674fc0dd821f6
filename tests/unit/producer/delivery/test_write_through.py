"""durability="spool": what track_event returns for each event."""

from pathlib import Path
from typing import Literal

import pytest
from birdfeed.delivery.write_through import WriteThrough
from birdfeed.options import Options
from birdfeed.spool.database import ROW_OVERHEAD
from birdfeed.stats import Counters

from tests.support.producer.fakes import REDIS_URL


@pytest.mark.parametrize(("policy", "kept"), [("newest", [True, True, False]), ("oldest", [True, True, True])])
def test_an_event_that_a_full_spool_drops_is_not_kept(
    tmp_path: Path, policy: Literal["newest", "oldest"], kept: list[bool]
) -> None:
    """With "oldest" an earlier event is dropped instead; track_event returns None only for the event itself."""
    event = ("text_generation", b"{}", 0, 0, "0192f0c1-5a3e-7d44-9c1b-6a3f6f2f8b11")
    options = Options(redis_url=REDIS_URL, spool_dir=tmp_path, spool_bytes=2 * (150 + ROW_OVERHEAD), drop_policy=policy)
    counters = Counters()
    write_through = WriteThrough(options, counters, lambda event: False)

    assert [write_through.put(event) for _ in range(3)] == kept

    assert (counters.taken, counters.spooled, counters.dropped()) == (3, sum(kept), {"spool_full": 1})
    write_through.close()
