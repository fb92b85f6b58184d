from django.db import migrations, models


class Migration(migrations.Migration):
    """No table; the permissions come with the model."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ControlRoom",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
            options={
                "verbose_name": "control room",
                "verbose_name_plural": "control room",
                "permissions": [
                    ("view_control_room", "Can see jobs, their arguments and errors, workers and schedules"),
                    ("manage_control_room", "Can retry, cancel and redrive jobs, and pause channels and schedules"),
                    ("purge_control_room", "Can delete jobs that have ended"),
                ],
                "managed": False,
                "default_permissions": (),
            },
        ),
    ]
