"""The form that the views of the snippets use."""

from django import forms


class QuestionnaireResponsesForm(forms.Form):
    """A page of a questionnaire."""

    questionnaire_id = forms.CharField()
    page_number = forms.IntegerField()
    answer = forms.CharField()
