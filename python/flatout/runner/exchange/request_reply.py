"""Request–reply: each request is answered, and requests leave on schedule."""

from __future__ import annotations

from flatout.result import loss
from flatout.result.model import Outcomes
from flatout.runner.exchange.base import Exchange, Monitor
from flatout.runner.target_monitor import TargetMonitor
from flatout.scenario.exchange.wording import ANSWERED
from flatout.scenario.model import Scenario


class RequestReply(Exchange):
    """The far end answers each request; the engine sees what is lost."""

    wording = ANSWERED

    def monitor(self, scenario: Scenario) -> Monitor:
        """Silence, refusals and the end of all connections count as loss of the target."""
        return TargetMonitor(scenario.timeout_s)

    def loss(self, outcomes: Outcomes, *_: object, **__: object) -> loss.LossAccount:
        """By the replies."""
        return loss.account_of_requests(outcomes)

    def target_lost(self, outcomes: Outcomes) -> str | None:
        """No right reply at all."""
        if not outcomes.sent or outcomes.answered + outcomes.late:
            return None
        if outcomes.refused:
            return f"the target never answered: {outcomes.refused:,} of {outcomes.sent:,} requests were refused"
        if outcomes.invalid:
            return f"the target never answered rightly: all of {outcomes.invalid:,} answers were wrong"
        return f"the target never answered: nothing came back for {outcomes.sent:,} requests"
