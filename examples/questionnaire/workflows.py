"""Which sessions there are, and what happens in them.

A questionnaire has a session of its own. What concerns both questionnaires of an applicant
happens in a "super session", whose uid is made of the applicant's id instead.
"""

import json
from pathlib import Path
from typing import Any

from triggers import TriggerManager, get_trigger_manager

HERE = Path(__file__).resolve().parent


def _load(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return workflow


QUESTIONNAIRE_WORKFLOW = _load("workflow.json")
APPLICANT_WORKFLOW = _load("applicant_workflow.json")


def questionnaire_session(questionnaire_id: int) -> TriggerManager:
    """The session of one questionnaire."""
    return get_trigger_manager(f"questionnaire:{questionnaire_id}")


def applicant_session(applicant_id: int) -> TriggerManager:
    """The session of an applicant, for what spans several questionnaires."""
    return get_trigger_manager(f"applicant:{applicant_id}")
