"""The console's pages, as tests read them."""

import re

TOKEN = "a-token-of-the-tests"


def words(page: str) -> str:
    """A page's text without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def form_key(page: str) -> str:
    """The secret in a page's forms."""
    found = re.search(r'name="form_key" value="([^"]+)"', page)
    assert found is not None
    return found[1]
