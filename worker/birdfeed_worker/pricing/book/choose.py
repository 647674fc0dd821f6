"""Choose which entry, of which book, prices an event. docs/reference/statuses.md explains the statuses.

The names of an event are looked up in order: model_used, then model; each whole first, then without its first part. For
each name, the operator's book comes first, then the shipped one, then genai-prices. The shipped book holds one
platform's deployments, so entries of other providers than the event's are skipped, and an entry that was found by its
provider's name for the model is not used if the handler requested the public model by its public name.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from birdfeed_schemas.enrichment import PriceMatch
from birdfeed_schemas.events import Event
from birdfeed_schemas.tables.meters import TOKEN_CLASSES
from birdfeed_schemas.tables.providers import family_of

from birdfeed_worker.pricing.book.book import Books, PriceBook
from birdfeed_worker.pricing.book.entry import Entry
from birdfeed_worker.pricing.names import Candidate, candidates

#: Choices remembered for names that were seen before; names come from handlers, so there must be a bound.
_MAX_REMEMBERED: Final = 4_096


class Step(NamedTuple):
    """One look-up.

    Attributes:
        name: The name to look up.
        requested: Whether it is the requested model, not the one that answered.
        book: The price book; None: the fallback, for the `family`.
        free_counts: Whether its rates of 0 apply to this event.
        variant: OpenRouter's suffix of the name.
        estimated: Whether the entry is only the best one known.
    """

    name: str
    requested: bool
    book: PriceBook | None
    family: str = ""
    free_counts: bool = True
    variant: str = ""
    estimated: bool = False


class Choice(NamedTuple):
    """Where to look up an event's price, in order, and the provider that its model's name contains, if any.

    `in_books`: whether a book has the model; then the media book is not used. `fixed`: find()'s result at any time.
    """

    steps: tuple[Step, ...]
    media: tuple[Candidate, ...]
    provider: str | None
    in_books: bool
    fixed: "Chosen | None" = None


class Chosen(NamedTuple):
    """The entry that prices an event, and how it was found. `free_unproven`: its rates, all 0, may not apply to it."""

    entry: Entry
    match: PriceMatch
    free_unproven: bool = False


def choice_for(books: Books, event: Event) -> Choice:
    """Where to look up an event's price; computed once for each model and provider."""
    key = (event.model_used, event.model, event.provider)
    choice = books.choices.get(key)
    if choice is None:
        if len(books.choices) >= _MAX_REMEMBERED:
            books.choices.clear()
        choice = books.choices[key] = _choice(books, event)
    return choice  # type: ignore[return-value]  # the dict holds only choices


def find(
    books: Books, choice: Choice, event: Event, at: datetime, modifiers: Mapping[str, str], prompt_tokens: int
) -> Chosen | None:
    """The price in force at a time (aware), from the first look-up that finds one."""
    for step in choice.steps:
        if step.book is not None:
            found = step.book.find(step.name, at)
            if found is None:
                continue
            entry: Entry | None = found.entry
            assert entry is not None
            if not step.free_counts and not all(entry.rates.values()):
                entry = entry.without_zeros()
                if entry is None:
                    return Chosen(found.entry, "requested" if step.requested else found.match, True)
        elif step.variant == "free":
            return Chosen(_free(step.name, books), "requested" if step.requested else "name")
        else:
            assert books.fallback is not None
            found = books.fallback.find(step.name, at, step.family, modifiers, prompt_tokens)
            if found is None:
                continue
            entry = found.entry
        match: PriceMatch = "requested" if step.requested else found.match
        if step.estimated or step.variant:
            entry = entry.worse(estimated=True, partial=step.variant == "online")
        return Chosen(entry, match)
    return None


def find_media(books: Books, choice: Choice, at: datetime) -> Chosen | None:
    """The media book's price. Its entries are for public models, so if a provider is named, it must be the entry's."""
    if books.media is None or choice.in_books:
        return None
    media = books.media()
    for name, family, requested in ((one.name, one.provider, bool(one.variant)) for one in choice.media):
        for key in (f"{family}/{name}", name) if family else (name,):
            found = media.find(key, at)
            if found is None:
                continue
            own = family_of(found.entry.provider)
            entry = found.entry if not family or own == family else found.entry.worse(estimated=True)
            return Chosen(entry, "requested" if requested else found.match)
    return None


def _choice(books: Books, event: Event) -> Choice:
    steps: list[Step] = []
    late: list[Step] = []
    media: list[Candidate] = []
    provider: str | None = None
    family = family_of(event.provider)
    public: bool | None = None
    in_books = False
    for name, requested in ((event.model_used, False), (event.model, True)):
        for one in candidates(name, family) if name else ():
            provider = provider or one.provider or None
            own = family or one.provider
            media.append(Candidate(one.name, own, "requested" if requested else ""))
            for book in books.layers if not one.variant else ():
                known = book.known(one.name)
                if known is None:
                    continue
                model = book.models[known.entry.name]
                entry_family = family_of(model.provider)
                restricted = book.source == "book" or model.own_provider_only
                if not restricted:
                    steps.append(Step(one.name, requested, book))
                    in_books = True
                    continue
                if own and entry_family and own != entry_family:
                    continue
                in_books = True
                agrees = bool(own) and own == entry_family
                by_original = known.match == "original_name" or one.name == model.original_name
                called = {model.name, *model.aliases}
                free = agrees or not called.isdisjoint(_asked(event, family))
                step = Step(one.name, requested, book, free_counts=free)
                if by_original and not agrees:
                    if public is None:
                        public = _is_public(books, event, family)
                    if public:
                        late.append(step._replace(estimated=True))
                        continue
                steps.append(step)
            if books.fallback is not None:
                known_there = one.variant == "free" or books.fallback.knows(one.name, own)
                if known_there:
                    steps.append(Step(one.name, requested, None, family=own, variant=one.variant))
        steps += late
        late = []
    return Choice(tuple(steps), tuple(media), provider, in_books, _fixed(steps[0]) if steps else None)


def _fixed(step: Step) -> Chosen | None:
    """The entry of a model whose price never changes; None if the price also depends on the event."""
    found = None if step.book is None or step.estimated else step.book.always(step.name)
    if found is None or not (step.free_counts or all(found.entry.rates.values())):
        return None
    return Chosen(found.entry, "requested" if step.requested else found.match)


def _asked(event: Event, family: str) -> Iterator[str]:
    for name in (event.model_used, event.model):
        for one in candidates(name, family) if name else ():
            yield one.name


def _is_public(books: Books, event: Event, family: str) -> bool:
    """Whether the requested model is a public one: genai-prices knows it, and no entry has that name itself."""
    if books.fallback is None or not event.model:
        return False
    names = candidates(event.model, family)
    for book in books.layers:
        for one in names:
            known = book.known(one.name)
            if known is None or known.match == "original_name":
                continue
            if one.name != book.models[known.entry.name].original_name:
                return False
    return any(books.fallback.knows(one.name, family or one.provider) for one in names if not one.variant)


def _free(name: str, books: Books) -> Entry:
    """OpenRouter's price for a model whose name ends in ":free"."""
    assert books.fallback is not None
    return Entry(
        name=name,
        provider="openrouter",
        unit="token",
        rates=dict.fromkeys(TOKEN_CLASSES, Decimal(0)),
        source="genai-prices",
        book=books.fallback.version,
    )
