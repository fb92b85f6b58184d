"""`python -m project.development.prepare`: bring the database's tables up to date; where that fails, one clear line."""

import os
import sys

import django
from django.db import DatabaseError


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()

    from django.core.management import call_command
    from django.db import connection

    try:
        call_command("migrate", interactive=False, verbosity=0)
    except DatabaseError as error:
        print(f"the database ({connection.vendor}) can't be used: {' '.join(str(error).split())}")
        return 1
    print(f"the database ({connection.vendor}) is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
