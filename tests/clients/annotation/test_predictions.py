"""Which of several annotations of a task is the newest."""

from __future__ import annotations

from typing import Any

import pytest

from maskmend.clients.annotation.predictions import _regions


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"result": [{"id": name}], **more}


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([entry("a", updated_at="2026-01-02T00:00:00Z"), entry("b", updated_at="2026-01-01T00:00:00.5Z")], "a"),
        ([entry("a", created_at="2026-01-02T00:00:00Z"), entry("b", created_at="2026-01-01T23:00:00-05:00")], "b"),
        ([entry("a", updated_at="2026-01-02", created_at="2025"), entry("b", created_at="2026-01-01")], "a"),
        ([entry("a", id=7), entry("b", id=3)], "a"),
        ([entry("a"), entry("b")], "b"),
        ([entry("a", updated_at=5, id="x"), entry("b", updated_at="never")], "b"),
        ([entry("a", updated_at="2026-01-02", was_cancelled=True), entry("b", updated_at="2026-01-01")], "b"),
    ],
)
def test_the_newest_annotation_is_the_one_changed_last(entries: list[dict[str, Any]], wanted: str) -> None:
    for kind in ("annotations", "predictions"):
        assert _regions({"data": {}, kind: entries}, None) == [{"id": wanted}]
