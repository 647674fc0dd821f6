"""What changed between two books."""

from birdfeed_worker.pricing.book.book import PriceBook, parse
from birdfeed_worker.pricing.book.diff import diff


def a(text: str) -> PriceBook:
    return parse(text, origin="x")


OLD = """
service_tiers = { batch = 0.5, flex = 0.5 }

[[model]]
name = "same"
unit = "token"
price = { prompt_text = 1 }

[[model]]
name = "gone"
unit = "token"
price = { prompt_text = 1 }

[[model]]
name = "changed"
aliases = ["b", "a"]
provider = "p"
unit = "image"
price = { image = 1, variants = [{ when = { quality = "hd" }, image = 2 }] }
"""
NEW = """
service_tiers = { batch = 0.4, priority = 2 }

[[model]]
name = "changed"
aliases = ["a"]
original_name = "o"
unit = "image"
price = [
  { until = 2026-01-01, image = 1, variants = [{ when = { quality = "hd" }, image = 3 }] },
  { from = 2026-01-01T06:00:00, image = 0.5 },
]

[[model]]
name = "same"
unit = "token"
price = [{ prompt_text = 1.0 }]

[[model]]
name = "new"
unit = "second"
price = { video_second = 0.08 }
"""


def test_no_change() -> None:
    """A book equals itself in another notation."""
    assert diff(a(OLD), a("# comment\n" + OLD.replace("= 1 ", "= 1.00 "))) == []


def test_every_change() -> None:
    """Each model and field that changed, in a line."""
    assert [str(change) for change in diff(a(OLD), a(NEW))] == [
        "changed: aliases is a, was a, b",
        "changed: original_name is new: o",
        "changed: image until 2026-01-01 is new: 1",
        "changed: variant 1 (quality hd) image until 2026-01-01 is new: 3",
        "changed: image from 2026-01-01 06:00 is new: 0.5",
        "changed: provider is gone, was p",
        "changed: image is gone, was 1",
        "changed: variant 1 (quality hd) image is gone, was 2",
        "new is new: unit second; video_second 0.08",
        "gone is gone",
        "every model: service tier batch is 0.4, was 0.5",
        "every model: service tier flex is gone, was 0.5",
        "every model: service tier priority is new: 2",
    ]
