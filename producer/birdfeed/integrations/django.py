"""Django: read birdfeed's settings from Django's.

    INSTALLED_APPS = [..., "birdfeed.integrations.django.BirdfeedConfig"]
    BIRDFEED = {"queue": "staging", "before_send": "myproject.telemetry.scrub"}

BIRDFEED is optional: what it doesn't say comes from the environment. `before_send` and `credentials` may be functions,
or their dotted paths.
"""

from typing import Any

from django.apps import AppConfig  # type: ignore[import-untyped, unused-ignore]
from django.conf import settings  # type: ignore[import-untyped, unused-ignore]
from django.utils.module_loading import import_string  # type: ignore[import-untyped, unused-ignore]

from birdfeed import api


class BirdfeedConfig(AppConfig):  # type: ignore[misc, unused-ignore]  # Django ships no types
    """The Django app: it has no models and no views."""

    name = "birdfeed.integrations.django"
    label = "birdfeed"
    verbose_name = "birdfeed"

    def ready(self) -> None:
        """Configure birdfeed; raises ConfigurationError where the settings are wrong."""
        given: dict[str, Any] = dict(getattr(settings, "BIRDFEED", {}))
        for name in ("before_send", "credentials"):
            if isinstance(given.get(name), str):
                given[name] = import_string(given[name])
        api.configure(**given)
