"""The shipped list of trainer keys is SFTConfig's own."""

import dataclasses
import enum
import types
import typing

from trl import SFTConfig

from kollm.recipe.trainer_keys import trainer_keys


def yaml_types(hint):
    """Names of the YAML types that a field of this type takes."""
    if hint is type(None):
        return {"none"}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*(yaml_types(part) for part in typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return {type(value).__name__ for value in typing.get_args(hint)}
    plain = typing.get_origin(hint) or hint
    if plain in (int, float, bool, str, dict, list):
        return {plain.__name__}
    return {"str"} if isinstance(plain, type) and issubclass(plain, enum.Enum) else {"any"}


def test_the_file_has_every_key_and_type_of_sftconfig():
    hints = typing.get_type_hints(SFTConfig)
    expected = {
        field.name: sorted(yaml_types(hints[field.name])) for field in dataclasses.fields(SFTConfig) if field.init
    }
    assert trainer_keys() == expected
    assert "warmup_ratio" not in expected
