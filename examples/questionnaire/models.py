"""Who answers what, and what the tasks make of it.

The rows that tasks write have no unique constraints on purpose: nothing but ``triggers`` keeps a
task from running twice here, and the demo counts these rows to see whether it does.
"""

from django.db import models


class Applicant(models.Model):
    nickname = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.nickname


class Questionnaire(models.Model):
    """One applicant's way through one questionnaire."""

    class Kind(models.TextChoices):
        FLORA = "flora"
        FAUNA = "fauna"

    PAGES = {Kind.FLORA: 3, Kind.FAUNA: 6}

    applicant = models.ForeignKey(Applicant, on_delete=models.CASCADE)
    kind = models.CharField(max_length=10, choices=Kind)

    def __str__(self) -> str:
        return f"{self.kind} of {self.applicant}"

    @property
    def page_count(self) -> int:
        return self.PAGES[self.Kind(self.kind)]


class Subject(models.Model):
    """Written by ``t_importSubject``."""

    questionnaire = models.ForeignKey(Questionnaire, on_delete=models.CASCADE)
    given_name = models.CharField(max_length=100)
    birthday = models.DateField()

    def __str__(self) -> str:
        return self.given_name


class Response(models.Model):
    """Written by ``t_importResponses``: the answers of one page."""

    subject = models.ForeignKey(Subject, on_delete=models.CASCADE)
    page = models.PositiveSmallIntegerField()
    answers = models.JSONField()

    def __str__(self) -> str:
        return f"page {self.page} of {self.subject}"


class BrowserMetadata(models.Model):
    """Written by ``t_importBrowserMetadata``: what is known about the browser of any one page."""

    subject = models.ForeignKey(Subject, on_delete=models.CASCADE)
    page = models.PositiveSmallIntegerField()
    family = models.CharField(max_length=50)
    version = models.CharField(max_length=20)

    class Meta:
        verbose_name_plural = "browser metadata"

    def __str__(self) -> str:
        return f"{self.family} {self.version}"


class Score(models.Model):
    """Written by ``t_computeScore``."""

    subject = models.ForeignKey(Subject, on_delete=models.CASCADE)
    model = models.CharField(max_length=50)
    points = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.points} ({self.model})"


class Comparison(models.Model):
    """Written by ``t_compareResponses``: how many answers the two questionnaires share."""

    applicant = models.ForeignKey(Applicant, on_delete=models.CASCADE)
    alike = models.PositiveSmallIntegerField()

    def __str__(self) -> str:
        return f"{self.alike} alike"
