"""Where the client sends what."""

from django.urls import path

from examples.questionnaire import views

urlpatterns = [
    path("questionnaires/", views.start_questionnaire, name="start"),
    path("questionnaires/<int:questionnaire_id>/pages/", views.page, name="page"),
    path("questionnaires/<int:questionnaire_id>/complete/", views.complete, name="complete"),
    path("questionnaires/<int:questionnaire_id>/embedded/", views.embedded, name="embedded"),
]
