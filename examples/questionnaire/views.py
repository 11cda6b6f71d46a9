"""What the client tells us. Each view says what happened, and knows nothing of what follows.

Requests are atomic (``ATOMIC_REQUESTS``), so a firing is recorded with whatever else the view
writes, and decided right after the commit. No view waits for a session, or holds one up.

A client that got no answer sends again; an ``Idempotency-Key`` header, the same both times, makes
the second one harmless.
"""

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from examples.questionnaire.models import Applicant, Questionnaire
from examples.questionnaire.workflows import (
    APPLICANT_WORKFLOW,
    QUESTIONNAIRE_WORKFLOW,
    applicant_session,
    questionnaire_session,
)


@require_POST
def start_questionnaire(request: HttpRequest) -> JsonResponse:
    """An applicant clicks the "start" button: ``{"applicant": 1, "kind": "flora"}``."""
    try:
        body = _body(request)
        applicant_id = _positive(body, "applicant")
        kind = body.get("kind")
        if kind not in Questionnaire.Kind.values:
            raise ValueError(f"'kind' must be one of {', '.join(Questionnaire.Kind.values)}.")
    except ValueError as error:
        return _refused(error)
    applicant = get_object_or_404(Applicant, pk=applicant_id)
    questionnaire = Questionnaire.objects.create(applicant=applicant, kind=kind)

    questionnaire_session(questionnaire.pk).update_configuration(QUESTIONNAIRE_WORKFLOW)
    applicant_session(applicant.pk).update_configuration(APPLICANT_WORKFLOW)
    return JsonResponse({"questionnaire": questionnaire.pk}, status=201)


@require_POST
def page(request: HttpRequest, questionnaire_id: int) -> JsonResponse:
    """A page of responses arrives: ``{"page": 2, "responses": {"q1": 4}}``."""
    questionnaire = get_object_or_404(Questionnaire, pk=questionnaire_id)
    try:
        body = _body(request)
        number = _positive(body, "page")
        responses = body.get("responses")
        if number > questionnaire.page_count:
            raise ValueError(f"{questionnaire.kind} has {questionnaire.page_count} pages.")
        if not isinstance(responses, dict):
            raise ValueError("'responses' must be an object.")
    except ValueError as error:
        return _refused(error)

    received = {
        "questionnaire": questionnaire.pk,
        "page": number,
        "responses": responses,
        "userAgent": request.headers.get("User-Agent", ""),
    }
    key = request.headers.get("Idempotency-Key")
    session = questionnaire_session(questionnaire.pk)
    if number == 1:
        session.fire("firstPageReceived", received, idempotency_key=key)
    session.fire("pageReceived", received, idempotency_key=key)

    # Such as "flora_page3".
    applicant_session(questionnaire.applicant_id).fire(
        f"{questionnaire.kind}_page{number}", {"responses": responses}, idempotency_key=key
    )
    return JsonResponse({"page": number}, status=202)


@require_POST
def complete(request: HttpRequest, questionnaire_id: int) -> JsonResponse:
    """The applicant has reached the end."""
    questionnaire = get_object_or_404(Questionnaire, pk=questionnaire_id)
    key = request.headers.get("Idempotency-Key")
    questionnaire_session(questionnaire.pk).fire("questionnaireComplete", idempotency_key=key)
    return JsonResponse({}, status=202)


@require_POST
def embedded(request: HttpRequest, questionnaire_id: int) -> JsonResponse:
    """The application around the questionnaire reports that it is there, whenever it gets to it."""
    questionnaire = get_object_or_404(Questionnaire, pk=questionnaire_id)
    key = request.headers.get("Idempotency-Key")
    questionnaire_session(questionnaire.pk).fire("isEmbeddedApplication", idempotency_key=key)
    return JsonResponse({}, status=202)


def _body(request: HttpRequest) -> Mapping[str, Any]:
    body = json.loads(request.body)
    if not isinstance(body, dict):
        raise ValueError("Expected a JSON object.")
    return body


def _positive(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name!r} must be a whole number above 0.")
    return value


def _refused(error: ValueError) -> JsonResponse:
    return JsonResponse({"error": str(error)}, status=400)
