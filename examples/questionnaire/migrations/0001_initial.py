from django.db import migrations, models
from django.db.models.deletion import CASCADE

ID = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Applicant",
            fields=[
                ("id", ID),
                ("nickname", models.CharField(max_length=50)),
            ],
        ),
        migrations.CreateModel(
            name="Questionnaire",
            fields=[
                ("id", ID),
                ("applicant", models.ForeignKey("questionnaire.applicant", CASCADE)),
                (
                    "kind",
                    models.CharField(
                        choices=[("flora", "Flora"), ("fauna", "Fauna")], max_length=10
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Subject",
            fields=[
                ("id", ID),
                ("questionnaire", models.ForeignKey("questionnaire.questionnaire", CASCADE)),
                ("given_name", models.CharField(max_length=100)),
                ("birthday", models.DateField()),
            ],
        ),
        migrations.CreateModel(
            name="Response",
            fields=[
                ("id", ID),
                ("subject", models.ForeignKey("questionnaire.subject", CASCADE)),
                ("page", models.PositiveSmallIntegerField()),
                ("answers", models.JSONField()),
            ],
        ),
        migrations.CreateModel(
            name="BrowserMetadata",
            fields=[
                ("id", ID),
                ("subject", models.ForeignKey("questionnaire.subject", CASCADE)),
                ("page", models.PositiveSmallIntegerField()),
                ("family", models.CharField(max_length=50)),
                ("version", models.CharField(max_length=20)),
            ],
            options={"verbose_name_plural": "browser metadata"},
        ),
        migrations.CreateModel(
            name="Score",
            fields=[
                ("id", ID),
                ("subject", models.ForeignKey("questionnaire.subject", CASCADE)),
                ("model", models.CharField(max_length=50)),
                ("points", models.IntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Comparison",
            fields=[
                ("id", ID),
                ("applicant", models.ForeignKey("questionnaire.applicant", CASCADE)),
                ("alike", models.PositiveSmallIntegerField()),
            ],
        ),
    ]
