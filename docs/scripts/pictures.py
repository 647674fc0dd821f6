"""The pictures of docs/explanation/architecture.md: `python -m docs.scripts.pictures` writes docs/pictures/*.svg.

They are inlined into the page, so that they use the site's light or dark colours; on their own, they follow the
reader's system.
"""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "pictures"

STYLE: Final = """\
.bf{--ink:var(--md-default-fg-color,#1f2328);--soft:var(--md-default-fg-color--light,#57606a);\
--line:var(--md-default-fg-color--lighter,#8c959f);--fill:var(--md-code-bg-color,#f6f8fa);\
--ours:var(--md-accent-fg-color,#00796b);font-family:system-ui,sans-serif;width:100%}
@media(prefers-color-scheme:dark){.bf{--ink:var(--md-default-fg-color,#e6edf3);\
--soft:var(--md-default-fg-color--light,#9ea7b3);--line:var(--md-default-fg-color--lighter,#6e7681);\
--fill:var(--md-code-bg-color,#161b22);--ours:var(--md-accent-fg-color,#4db6ac)}}
.bf text{fill:var(--ink);font-size:14px}
.bf .small{fill:var(--soft);font-size:12px}
.bf .group{fill:none;stroke:var(--line);stroke-dasharray:5 4}
.bf .box{fill:var(--fill);stroke:var(--line)}
.bf .ours{stroke:var(--ours);stroke-width:1.5}
.bf .arrow{fill:none;stroke:var(--soft);stroke-width:1.5}
.bf .rare{stroke-dasharray:4 4}
.bf .head{fill:var(--soft)}
.bf .bold{font-weight:600}"""


@dataclass(slots=True)
class Picture:
    """Boxes and arrows at given positions, in pixels of the picture's own size."""

    name: str
    title: str
    description: str
    width: int
    height: int
    _parts: list[str] = field(default_factory=list)

    def text(self, x: int, y: int, words: str, style: str = "", anchor: str = "middle") -> None:
        """One line of text; `y` is its baseline."""
        self._parts.append(f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, at: tuple[int, int], size: tuple[int, int], title: str, *lines: str, ours: bool = True) -> None:
        """A process, a folder or a store: a title, and smaller lines below it, in the middle of the box."""
        (x, y), (width, height) = at, size
        style = "box ours" if ours else "box"
        self._parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{style}"/>')
        baseline = y + (height - 16 * len(lines)) // 2 + 5
        self.text(x + width // 2, baseline, title, "bold")
        for number, line in enumerate(lines, 1):
            self.text(x + width // 2, baseline + 16 * number, line, "small")

    def group(self, at: tuple[int, int], size: tuple[int, int], title: str) -> None:
        """A dashed frame around boxes, with its title inside at the top."""
        (x, y), (width, height) = at, size
        self._parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" class="group"/>')
        self.text(x + 12, y + 20, title, "small", "start")

    def arrow(self, *points: tuple[int, int], rare: bool = False) -> None:
        """A line through the points, with an arrow head at the last one; dashed if `rare`."""
        path = " ".join(f"{x},{y}" for x, y in points)
        style = "arrow rare" if rare else "arrow"
        self._parts.append(f'<polyline points="{path}" class="{style}" marker-end="url(#{self.name}-head)"/>')

    def svg(self) -> str:
        """The picture, without empty lines, so that Markdown reads it as one block."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="bf" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-labelledby="{self.name}-title {self.name}-description">'
        )
        marker = (
            f'<defs><marker id="{self.name}-head" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
        )
        lines = (
            head,
            f'<title id="{self.name}-title">{escape(self.title)}</title>',
            f'<desc id="{self.name}-description">{escape(self.description)}</desc>',
            f"<style>{STYLE}</style>",
            marker,
            *self._parts,
            "</svg>",
        )
        return "\n".join(lines) + "\n"


def processes() -> Picture:
    """The processes, and where data is kept."""
    picture = Picture(
        "processes",
        "Processes and stores",
        "The application's process has a buffer in memory, a flusher thread and a spool on disk. The flusher writes "
        "batches to Redis. A launcher runs worker processes, which reserve jobs in Redis and write rows to Tinybird. "
        "Events that crash a worker are tried in a process of their own. The command line reads and changes Redis, "
        "Tinybird and the spool.",
        880,
        520,
    )
    picture.group((10, 10), (230, 300), "application process")
    picture.box((30, 45), (190, 54), "request handler", "track_event, track", ours=False)
    picture.box((30, 135), (190, 54), "buffer", "memory, bounded")
    picture.box((30, 225), (190, 64), "flusher thread", "packs events into", "batches")
    picture.box((30, 360), (190, 64), "spool", "SQLite on disk, for when", "Redis is away")
    picture.arrow((125, 99), (125, 133))
    picture.arrow((125, 189), (125, 223))
    picture.arrow((100, 289), (100, 358), rare=True)
    picture.arrow((150, 360), (150, 291), rare=True)

    kept = ("queue of jobs", "scheduled and", "started jobs", "dead letters", "ledger, counters")
    picture.box((310, 130), (190, 180), "Redis or Valkey", *kept, ours=False)
    picture.arrow((220, 257), (308, 257))
    picture.text(274, 248, "batches", "small")

    picture.group((570, 10), (300, 330), "worker machine")
    picture.box((590, 45), (240, 54), "launcher", "/metrics, /healthz, /readyz")
    picture.box((590, 140), (240, 74), "worker processes (N)", "decode, validate, enrich,", "write, settle")
    picture.box((590, 256), (240, 64), "poison triage", "a process of its own; one child", "for each try")
    picture.arrow((710, 99), (710, 138))
    picture.arrow((710, 214), (710, 254), rare=True)
    picture.arrow((500, 165), (588, 165))
    picture.text(522, 160, "jobs", "small")
    picture.arrow((590, 195), (502, 195))
    picture.text(543, 212, "results", "small")

    picture.box((590, 420), (240, 74), "Tinybird", "llm_events, image_events", "endpoints for dashboards", ours=False)
    picture.arrow((830, 177), (850, 177), (850, 457), (832, 457))
    picture.text(842, 385, "rows", "small", "end")
    picture.box((310, 12), (190, 64), "prices and tiers", "price books; tier file,", "hash or auth service", ours=False)
    picture.arrow((500, 40), (548, 40), (548, 150), (588, 150))

    picture.box((310, 420), (190, 74), "birdfeed command", "status, dead letters,", "prices, report")
    picture.arrow((405, 420), (405, 312))
    picture.arrow((500, 457), (588, 457))
    picture.arrow((310, 445), (265, 445), (265, 392), (222, 392))
    return picture


def folders() -> Picture:
    """The path of an event, folder by folder."""
    picture = Picture(
        "folders",
        "The data's way through the folders",
        "In the producer: tracking, encoding, buffering, delivery, then transport to Redis, or spool and later Redis. "
        "In the worker: queue, then the pipeline's stages decode, validate, enrich with pricing and tiers, batch, "
        "write, send and settle. Rows go to tinybird, events that can't be written to dead_letters.",
        860,
        600,
    )
    picture.group((10, 10), (240, 580), "producer/birdfeed")
    steps = (
        (45, "tracking", "time the work, make the event"),
        (125, "encoding", "allowed fields, one JSON line"),
        (205, "buffering", "wait in memory, bounded"),
        (285, "delivery", "batches, in a thread"),
    )
    for y, title, line in steps:
        picture.box((25, y), (210, 54), title, line)
        picture.arrow((130, y + 54), (130, y + 78))
    picture.box((25, 365), (210, 54), "transport", "batches into Redis")
    picture.box((25, 500), (210, 54), "spool", "batches on disk")
    picture.arrow((118, 419), (118, 498), rare=True)
    picture.arrow((158, 500), (158, 421), rare=True)
    picture.text(110, 462, "Redis is away", "small", "end")
    picture.text(166, 462, "it is back", "small", "start")

    picture.box((290, 365), (100, 54), "Redis", "jobs", ours=False)
    picture.arrow((235, 392), (288, 392))

    picture.group((430, 10), (420, 580), "worker/birdfeed_worker")
    picture.box((445, 45), (150, 54), "queue", "reserve jobs")
    picture.arrow((340, 365), (340, 72), (443, 72))
    picture.group((445, 120), (150, 458), "pipeline")
    stages = ("decode", "validate", "enrich", "batch", "write", "send", "settle")
    for number, stage in enumerate(stages):
        y = 150 + 60 * number
        picture.box((460, y), (120, 40), stage)
        if number < len(stages) - 1:
            picture.arrow((520, y + 40), (520, y + 58))
    picture.arrow((520, 99), (520, 148))

    picture.box((670, 45), (165, 54), "process", "the loop that runs all")
    picture.arrow((670, 72), (597, 72))
    picture.box((670, 210), (165, 48), "pricing", "usage, book, price")
    picture.box((670, 290), (165, 48), "tiers", "look up, cache")
    picture.arrow((670, 234), (630, 234), (630, 280), (582, 280))
    picture.arrow((670, 314), (630, 314), (630, 290), (582, 290))
    picture.box((670, 370), (165, 48), "flow", "rate limit, backoff")
    picture.arrow((670, 394), (640, 394), (640, 460), (582, 460))
    picture.box((670, 450), (165, 48), "tinybird", "client, lookups")
    picture.arrow((580, 474), (668, 474))
    picture.box((670, 526), (165, 48), "dead_letters", "events not written")
    picture.arrow((580, 535), (668, 535), rare=True)
    picture.arrow((460, 530), (340, 530), (340, 421))
    picture.text(350, 475, "finished,", "small", "start")
    picture.text(350, 491, "or later", "small", "start")
    return picture


PICTURES: Final = (processes, folders)

if __name__ == "__main__":
    for draw in PICTURES:
        (FOLDER / f"{draw.__name__}.svg").write_text(draw().svg())
