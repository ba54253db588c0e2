"""What CONFIG HELP, CONFIG SHOW and SHOW VARIABLES say of settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.errors import NotFoundError

MUTABLE = frozenset(
    {"cache.enabled", "cache.min_query_cost_ms", "cache.ttl_seconds", "logging.json", "logging.level"}
)
_MASK = "***"
_MASKED = "security.requirepass"


def help_text(path: str) -> str:
    """Return the help of one setting or section, or the list of sections.

    Raises:
        NotFoundError: There is no such path.
    """
    if not path:
        return _section_list()
    node, described = _find(path)
    lines = [path, ""]
    choices = node.get("enum", [])
    lines.append(f"Type: {node.get('type', 'string')}{' (enum)' if choices else ''}")
    if "default" in described and node.get("type") != "object":
        lines.append(f"Default: {_scalar(described['default'])}")
    if "minimum" in node or "maximum" in node:
        low, high = node.get("minimum", "-∞"), node.get("maximum", "+∞")
        lines.append(f"Range: {_scalar(low)} - {_scalar(high)}")
    if choices:
        lines.append("Allowed values:")
        lines += [f"  - {_scalar(choice)}" for choice in choices]
    if "description" in described:
        lines.append(f"Description: {described['description']}")
    return "\n".join(lines) + "\n"


def show_text(settings: NvecdSettings, path: str) -> str:
    """Return settings as YAML, secrets masked.

    Raises:
        NotFoundError: There is no such path.
    """
    tree: Any = _tree(settings)
    for part in filter(None, path.split(".")):
        if not isinstance(tree, dict) or part not in tree:
            raise NotFoundError(f"Path not found: {path}")
        tree = tree[part]
    return "\n".join(_yaml(tree, 0)) + "\n"


def variables(settings: NvecdSettings) -> dict[str, str]:
    """Return every setting by its dotted name, ascending, as SHOW VARIABLES prints values."""
    return {name: _variable(name, value) for name, value in sorted(_leaves(settings, ""))}


def canonical_name(name: str) -> str:
    """Return the listed name of a variable: `perf.` is short for `performance.`."""
    return "performance." + name.removeprefix("perf.") if name.startswith("perf.") else name


def _leaves(settings: msgspec.Struct, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _leaves(value, f"{prefix}{field.name}.")
        elif value != field.default or not _is_extension(field):
            yield f"{prefix}{field.name}", value


def _is_extension(field: msgspec.structs.FieldInfo) -> bool:
    metadata = [one for one in getattr(field.type, "__metadata__", ()) if isinstance(one, msgspec.Meta)]
    return any((one.extra or {}).get("extension") for one in metadata)


def _variable(name: str, value: Any) -> str:
    if name == _MASKED:
        return _MASK if value else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6f}"
    return ",".join(value) if isinstance(value, list) else str(value)


def _tree(settings: NvecdSettings) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in sorted(_leaves(settings, "")):
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    tree["security"] = {"auth_enabled": bool(settings.security.requirepass), "requirepass": _MASK}
    return tree


def _yaml(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, dict):
        for key in sorted(value):
            child = value[key]
            if isinstance(child, (dict, list)):
                yield f"{pad}{key}:"
                yield from _yaml(child, depth + 1)
            else:
                yield f"{pad}{key}: {_scalar(child)}"
    elif isinstance(value, list):
        for one in value:
            yield f"{pad}- {_scalar(one)}"
    else:
        yield f"{pad}{_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value if value in {"-∞", "+∞"} else f'"{value}"'
    return json.dumps(value)


def _section_list() -> str:
    sections = {field.name: _description(field) for field in msgspec.structs.fields(NvecdSettings)}
    width = max(map(len, sections)) + 2
    lines = [f"  {name:<{width}}- {sections[name]}" for name in sorted(sections)]
    last = 'Use "CONFIG HELP <section>" for detailed information.'
    return "\n".join(["Available configuration sections:", *lines, "", last]) + "\n"


def _description(field: msgspec.structs.FieldInfo) -> str:
    metadata = [one for one in getattr(field.type, "__metadata__", ()) if isinstance(one, msgspec.Meta)]
    return next((one.description for one in metadata if one.description), "")


def _find(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a setting's schema, and the entry that describes it."""
    components = msgspec.json.schema(NvecdSettings)
    definitions = components["$defs"]
    node: dict[str, Any] = definitions["NvecdSettings"]
    entry = node
    for part in filter(None, path.split(".")):
        properties = node.get("properties", {})
        if part not in properties:
            raise NotFoundError(f"Configuration path not found: {path}")
        entry = properties[part]
        references = [
            one["$ref"] for one in (entry, *entry.get("allOf", ()), *entry.get("anyOf", ())) if "$ref" in one
        ]
        node = definitions[references[0].rsplit("/", 1)[1]] if references else entry
    return node, entry
