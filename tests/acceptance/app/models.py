"""The models that the snippets import as ``my_app.models``; no migrations, see the fixture."""

from django.db import models


class Subject(models.Model):
    """An applicant; the snippets do not agree on what is known about one."""

    name = models.CharField(max_length=100, default="")
    firstName = models.CharField(max_length=100, default="")  # noqa: N815 (as printed)
    birthday = models.DateField(null=True)

    class Meta:
        app_label = "my_app"
        get_latest_by = "pk"

    def __str__(self) -> str:
        return self.name or self.firstName


class Questionnaire(models.Model):
    """A questionnaire; its session has its key."""

    name = models.CharField(max_length=100, default="")

    class Meta:
        app_label = "my_app"

    def __str__(self) -> str:
        return self.name
