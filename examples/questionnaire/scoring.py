"""Psychometric models, such as they are."""

from collections.abc import Iterable, Mapping
from typing import Any

WEIGHTS: dict[str, dict[str, int]] = {
    "Psych 01": {"q1": 3, "q2": 2, "q3": 1},
}


def score(model: str, pages: Iterable[Mapping[str, Any]]) -> int:
    """Add up the weighted answers of all pages.

    :param model: name of the model.
    :param pages: the answers of each page, by question.
    :raises ValueError: there is no such model.
    """
    if model not in WEIGHTS:
        raise ValueError(f"No model {model!r} (known: {', '.join(WEIGHTS)}).")
    return sum(
        weight * int(answers.get(question, 0))
        for answers in pages
        for question, weight in WEIGHTS[model].items()
    )
