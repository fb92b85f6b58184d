"""Every change is POSTed. What can't be taken back is asked first, on a page of its own or in a dialog with it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from . import screens
from .access import back

#: Said with a cancelled job.
REASON = "cancelled in the control room"
#: What the form of the question adds to what was POSTed before.
SURE = "sure"
_OWN = (SURE, "csrfmiddlewaretoken")


def asked(request: HttpRequest) -> bool:
    """Whether the person was asked, and is sure."""
    return request.POST.get(SURE) == "1"


def ask(request: HttpRequest, question: str, detail: str = "", *, yes: str, danger: bool = False) -> HttpResponse:
    """Ask, and POST the same again with ``sure`` when the answer is ``yes``."""
    sent = [(name, value) for name, values in request.POST.lists() if name not in _OWN for value in values]
    context = {
        "question": question,
        "detail": detail,
        "yes": yes,
        "danger": danger,
        "sent": sent,
        "next": back(request),
    }
    return screens.page(request, "control_room/confirm.html", context)


def done(request: HttpRequest, sentence: str, *, ok: bool = True, to: str = "") -> HttpResponse:
    """Say what was done (or, ``ok`` False, that nothing was) on the page that the person comes back to, or ``to``."""
    screens.forget()
    messages.add_message(request, messages.SUCCESS if ok else messages.WARNING, sentence, fail_silently=True)
    answer = HttpResponseRedirect(to or back(request))
    answer.status_code = 303
    return answer
