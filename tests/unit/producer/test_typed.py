"""The types for type checkers agree with the models."""

import inspect

import birdfeed
import pytest
from birdfeed.encoding.encoder import IDEMPOTENCY_KEY
from birdfeed.settings import ProducerSettings
from birdfeed.typed import ImageGenerationFields, SettingsFields, TextGenerationFields
from birdfeed_schemas.fields import SPELLINGS


@pytest.mark.parametrize(
    ("event_type", "fields"),
    [("text_generation", TextGenerationFields), ("image_generation", ImageGenerationFields)],
)
def test_fields_are_those_of_the_models(event_type: str, fields: type) -> None:
    """In every spelling that is read."""
    assert set(fields.__annotations__) - {IDEMPOTENCY_KEY} == set(SPELLINGS[event_type])


def test_settings_are_those_of_the_model() -> None:
    """Each can be passed to configure()."""
    assert set(SettingsFields.__annotations__) == set(ProducerSettings.model_fields)


def test_all_public_names_are_listed() -> None:
    """All that `import birdfeed` offers is in __all__ and has its own docstring."""
    offered = {
        name
        for name, value in vars(birdfeed).items()
        if not name.startswith("_") and not inspect.ismodule(value) and getattr(value, "__module__", "") != "typing"
    }
    assert offered == {name for name in birdfeed.__all__ if not name.startswith("_")}
    silent = [
        name for name in birdfeed.__all__ if not name.startswith("_") and not inspect.getdoc(getattr(birdfeed, name))
    ]
    assert silent == []
