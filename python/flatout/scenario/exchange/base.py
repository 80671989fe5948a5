"""What every kind of exchange offers: defaults, checks, notes and words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from flatout.errors import UsageError
from flatout.protocols.base import Protocol, ReceiverLayout
from flatout.scenario import profile as profiles
from flatout.scenario.exchange.wording import ANSWERED, Wording
from flatout.scenario.model import Scenario, Segment

PLAIN = Scenario(protocol="", target="", profile=())


class OwnSetting(NamedTuple):
    """A setting of one kind alone: the scenario's field, its flag, and what the flag is for."""

    field: str
    flag: str
    purpose: str


OWN_SETTINGS: dict[str, tuple[OwnSetting, ...]] = {
    "one-way": (
        OwnSetting("senders", "--senders", "one-way messages"),
        OwnSetting("spread", "--spread", "one-way messages"),
    ),
    "ping-pong": (
        OwnSetting("wait", "--wait", "--arrivals ping-pong"),
        OwnSetting("busy_poll_us", "--busy-poll", "--arrivals ping-pong"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One kind, with the protocol and its options; the defaults here are those of requests with replies."""

    protocol: Protocol
    options: Any

    name: ClassVar[str] = "request-reply"
    wording: ClassVar[Wording] = ANSWERED
    one_way: ClassVar[bool] = False
    # Whether threads may sleep instead of spinning.
    may_sleep: ClassVar[bool] = False

    def complete(self, given: Mapping[str, Any], targets: int) -> dict[str, Any]:  # noqa: ARG002
        """The arguments with this kind's defaults. Errors: UsageError for one that it does not have."""
        return dict(given)

    def own_schedule(self, *, seconds: float, has_rate: bool) -> Sequence[Segment] | None:  # noqa: ARG002
        """The profile of a kind that sets its own pace, else None. Errors: UsageError for a rate beside it."""
        return None

    def check(self, scenario: Scenario, targets: int) -> None:
        """Errors: UsageError for settings that do not fit together."""
        for kind, settings in OWN_SETTINGS.items():
            for own in settings if kind != self.name else ():
                if getattr(scenario, own.field) != getattr(PLAIN, own.field):
                    raise UsageError(f"{own.flag} is for {own.purpose}: leave it out")
        self.check_own(scenario, targets)

    def check_own(self, scenario: Scenario, targets: int) -> None:
        """The checks of this kind alone. Errors: UsageError."""

    def notes(self, scenario: Scenario, *, loopback: bool) -> list[str]:  # noqa: ARG002
        """What is worth knowing of such a run before it begins."""
        return []

    def check_search(self, *, p99: bool) -> None:  # noqa: ARG002
        """Whether a limit with this goal can be searched. Errors: UsageError."""
        return

    @property
    def receiver_layout(self) -> ReceiverLayout | None:
        """What the receiver has to know of the messages; None where replies come back."""
        return None

    @property
    def has_trial_lengths(self) -> bool:
        """Whether a search shortens the warm-up and the time-out."""
        return not self.one_way


def steady_without_rate(seconds: float) -> Sequence[Segment]:
    """A stretch of time without a rate."""
    return profiles.steady(0.0, seconds)
