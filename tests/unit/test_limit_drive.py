"""The shell of the limit search in virtual time: rests, recovery, interruptions, errors, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from limit_runs import HOST, SCENARIO, run
from limit_servers import search

from flatout.cli.output import exit_code
from flatout.errors import GeneratorError, GeneratorLost, HostLost, TargetError
from flatout.limit_search.drive import Environment, find_limit
from flatout.limit_search.sentence import sentence
from flatout.result.machine import Placement, PlacementTarget
from flatout.result.model import Goal, Limit, LimitResult, LoadResult, Search, StoppedBy
from flatout.runner.progress import RunProgress, SearchProgress

CAPACITY = 204_000


@dataclass
class Virtual:
    """A world in virtual time with a server of known capacity; the fields are what goes wrong, and when."""

    capacity: float = CAPACITY
    ceiling: float = 1e12
    dies_above: float = 1e12
    needs_rest_s: float = 0.0
    raises: dict[int, BaseException] = field(default_factory=dict)
    bad: int | None = None
    stops_at: int = 10**9
    now_s: float = 100.0
    runs: list[tuple[float, float]] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)
    probes: int = 0
    sick_until_s: float = 0.0
    dead: bool = False
    reported: list[SearchProgress] = field(default_factory=list)

    def measure(self, rate: float, duration_s: float, lead_s: float, tell: Callable[[RunProgress], None]) -> LoadResult:
        self.runs.append((rate, duration_s))
        if len(self.runs) - 1 in self.raises:
            raise self.raises[len(self.runs) - 1]
        self.now_s += max(0.2, lead_s) + duration_s
        tell(_running(rate, duration_s))
        planned = round(rate * duration_s)
        if rate > self.ceiling:
            return run(planned, unsent=planned // 10, duration_s=duration_s)
        self.dead = self.dead or rate > self.dies_above
        broken = self.dead or self.now_s < self.sick_until_s
        if rate > self.capacity:
            self.sick_until_s = self.now_s + self.needs_rest_s
        capacity = rate * 0.7 if len(self.runs) - 1 == self.bad else self.capacity
        answered = 0 if broken else min(planned, round(capacity * duration_s))
        return run(planned, answered=answered, duration_s=duration_s, verdict="target-lost" if self.dead else None)

    def recover(self) -> bool:
        self.probes += 1
        self.now_s += 0.05
        return not self.dead and self.now_s >= self.sick_until_s

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now_s += seconds

    def find(self, asked: Search | None = None, hint_per_s: float | None = None) -> LimitResult:
        world = Environment(
            measure=self.measure,
            recover=self.recover,
            clock=lambda: self.now_s,
            rest=self.rest,
            share_later_than=lambda _distribution, _ns: 0.0,
            stop=lambda: len(self.runs) >= self.stops_at,
            progress=self.reported.append,
        )
        return find_limit(
            SCENARIO,
            asked or search(),
            world,
            host=HOST,
            started_at="2026-01-01T00:00:00Z",
            hint_per_s=hint_per_s,
        )


def _running(rate: float, duration_s: float) -> RunProgress:
    counts = dict.fromkeys(("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate"), 0)
    return RunProgress(phase="running", t_s=0.0, total_s=duration_s, rate_per_s=rate, latest=None, **counts)


def test_finds_and_tells_the_limit() -> None:
    world = Virtual()
    result = world.find()
    assert result.limit.stopped_by == "found"
    limit = result.limit
    assert limit.value == result.rate_per_s
    assert (limit.confirmed, limit.holds, limit.loss_below, limit.censored) == (True, True, 0.0, 0.0)
    assert limit.interval is not None
    assert limit.interval[0] <= CAPACITY <= limit.interval[1] <= 1.06 * limit.interval[0]
    assert CAPACITY / 1.04 <= (limit.value or 0) <= CAPACITY < (limit.upper or 0) <= CAPACITY * 1.25
    assert result.sentence == (
        f"Holds {limit.value:,.0f} requests/s (loss <= 0.1 %); the limit is {limit.interval[0]:,.0f} to "
        f"{limit.interval[1]:,.0f}/s (90 % interval); fails at {limit.upper:,.0f}/s: {why_failed(result)}."
    )
    assert limit.conditional_throughput_per_s == limit.lower, "nothing was lost at the lower bound"
    assert result.duration_s == pytest.approx(world.now_s - 100.0)
    assert result.duration_s <= 60.0
    assert result.scenario == SCENARIO


def why_failed(result: LimitResult) -> str:
    """What failed at the upper bound."""
    return next(trial.why for trial in result.trials[::-1] if trial.intended_per_s == result.limit.upper)


def test_the_sentence_quotes_the_upper_bound_not_a_bad_moment_elsewhere() -> None:
    calm = Virtual().find()
    shaken = Virtual(bad=len(calm.trials) - 1).find()
    assert "loss 30 % is above 0.1 %" in {trial.why for trial in shaken.trials}
    assert why_failed(shaken) in shaken.sentence
    assert why_failed(shaken) != "loss 30 % is above 0.1 %"
    assert (shaken.limit.confirmed, shaken.limit.holds) == (True, False), "5 s of 30 % loss are no odd moment"
    assert "in half of the trials, but over all time at and below it lost" in shaken.sentence


def test_every_run_is_a_trial() -> None:
    world = Virtual()
    result = world.find()
    assert [(t.intended_per_s, t.duration_s) for t in result.trials] == world.runs
    assert {t.verdict for t in result.trials} == {"held", "failed"}
    assert {t.run_verdict for t in result.trials} == {"ok"}
    assert result.trials[0].phase == "bracket"
    assert result.trials[-1].phase == "confirm"
    failed = [t for t in result.trials if t.verdict == "failed"]
    assert all("is above 0.1 %" in t.why for t in failed)


def test_the_result_goes_to_json_and_back() -> None:
    result = Virtual().find()
    assert msgspec.json.decode(msgspec.json.encode(result), type=LimitResult) == result


def test_progress_tells_each_trial_once_and_the_limit_last() -> None:
    world = Virtual()
    result = world.find(hint_per_s=2e6)
    assert [p.finished for p in world.reported if p.finished is not None] == result.trials
    assert [p.trial for p in world.reported if p.finished is not None] == list(range(1, len(result.trials) + 1))
    assert [p.trial for p in world.reported if p.run is not None] == list(range(1, len(result.trials) + 1))
    assert [p.limit for p in world.reported if p.limit is not None] == [world.reported[-1].limit] == [result.limit]
    assert world.reported[-1].lower == result.limit.lower
    assert world.reported[-1].upper == result.limit.upper
    assert {p.ceiling_hint_per_s for p in world.reported} == {2e6}
    assert world.reported[-1].elapsed_s == pytest.approx(result.duration_s)


def test_rests_between_trials_and_probes_after_failed_ones() -> None:
    world = Virtual()
    result = world.find()
    failed = sum(t.verdict == "failed" for t in result.trials)
    assert len(world.rests) == len(result.trials)
    assert world.probes == failed
    assert sum(rest > 0.1 for rest in world.rests) == failed


def test_a_server_that_needs_rest_gets_it() -> None:
    """Without rest after overload it would fail at every load, and the limit would look far lower."""
    result = Virtual(needs_rest_s=1.5).find(search(budget_s=90.0))
    assert result.limit.stopped_by == "found"
    assert result.limit.value == pytest.approx(CAPACITY, rel=0.02)


def test_a_server_that_does_not_come_back_ends_the_search() -> None:
    world = Virtual(dies_above=180_000, capacity=170_000)
    result = world.find()
    assert result.limit.stopped_by == "target"
    assert result.limit.lower == result.limit.value == 122_243
    assert result.trials[-1].intended_per_s == 242_884
    assert result.trials[-1].run_verdict == "target-lost"
    assert result.trials[-1].verdict == "failed"
    assert result.sentence == (
        "The target stopped answering: no proper answers at a low rate after the trial at 242,884/s. "
        "Until then: held 122,243 requests/s (loss <= 0.1 %) in short trials; fails at 242,884/s. No long run has "
        "confirmed it."
    )
    assert world.probes == 5
    assert 2.0 < sum(world.rests[-5:]) < 6.0


def test_a_process_that_ended_is_named_where_the_target_does_not_come_back() -> None:
    def find(after: Placement) -> LimitResult:
        world = Virtual(dies_above=180_000, capacity=170_000)
        measure = world.measure

        def with_process(*arguments: Any) -> LoadResult:
            result = measure(*arguments)
            return msgspec.structs.replace(result, placement=Placement(target=about) if not world.dead else after)

        world.measure = with_process  # type: ignore[method-assign]
        return world.find()

    about = PlacementTarget(pids=[500], command="srv", threads=1, sockets=1, cpus=[0])
    in_trial = find(Placement(target=msgspec.structs.replace(about, ended=[500])))
    assert "after the trial at 242,884/s: srv (process 500) ended. Until then: held" in in_trial.sentence
    assert in_trial.trials[-1].why == "made by hand; srv (process 500) ended"
    between = find(Placement(where="nobody"))
    assert "after the trial at 242,884/s: srv (process 500) no longer listens. Until then" in between.sentence
    assert "srv" not in find(Placement(target=about)).sentence


def test_the_probe_may_find_the_target_gone() -> None:
    world = Virtual(capacity=170_000)

    def gone() -> bool:
        raise TargetError("connection refused")

    world.recover = gone  # type: ignore[method-assign]
    assert world.find().limit.stopped_by == "target"


def test_a_generator_bound_is_not_the_servers() -> None:
    result = Virtual(ceiling=150_000).find()
    assert (result.limit.stopped_by, result.limit.upper) == ("generator", None)
    invalid = [t for t in result.trials if t.verdict == "invalid"]
    assert invalid
    assert all(t.run_verdict == "generator-limited" and "10 % of requests unsent" in t.why for t in invalid)
    assert result.sentence == (
        f"At least {result.limit.value:,.0f}/s (loss <= 0.1 %); the generator could not go further: the generator fell "
        "behind: 10 % of requests unsent, p99 of its lateness 0.9 ms. The server's limit is unknown. Give it CPUs that "
        "the server does not use, or a second host; a plain rate test over UDP goes faster with --gso."
    )


def test_a_generator_that_drives_nothing_says_why() -> None:
    result = Virtual(ceiling=10).find()
    assert result.sentence == (
        "The server's limit is unknown: this generator cannot drive even 1,000 requests/s: "
        "the generator fell behind: 10 % of requests unsent, p99 of its lateness 0.9 ms."
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TargetError("port unreachable")])
def test_trials_survive_what_ends_the_search(error: BaseException) -> None:
    result = Virtual(raises={5: error}).find()
    assert result.limit.stopped_by == ("target" if isinstance(error, TargetError) else "interrupted")
    assert len(result.trials) == 5
    assert result.limit.value == 15_585


def test_a_search_ends_with_the_fleet_that_drives_it() -> None:
    result = Virtual(raises={5: GeneratorLost("the fleet's scheduler is gone")}).find()
    assert (result.limit.stopped_by, len(result.trials)) == ("generator", 5)
    assert "the fleet's scheduler is gone" in result.sentence


def test_hosts_that_were_lost_before_a_trial_are_no_evidence() -> None:
    lost = Virtual(raises={n: HostLost("two died") for n in (5, 6)}).find()
    assert lost.limit.value == Virtual().find().limit.value
    limited = Virtual(raises={n: GeneratorError("no memory") for n in range(5, 99)}).find()
    assert limited.limit.stopped_by == "generator"


def test_an_interrupted_run_is_kept_as_an_invalid_trial() -> None:
    world = Virtual()
    whole = world.measure
    world.measure = lambda rate, duration_s, lead_s, tell: (  # type: ignore[method-assign]
        whole(rate, duration_s, lead_s, tell) if len(world.runs) < 4 else run(0, answered=0, verdict="interrupted")
    )
    result = world.find()
    assert result.limit.stopped_by == "interrupted"
    assert [t.verdict for t in result.trials] == ["held"] * 4 + ["invalid"]
    assert result.limit.value == 7_844


def test_stop_ends_after_the_trial_under_way() -> None:
    result = Virtual(stops_at=3).find()
    assert result.limit.stopped_by == "interrupted"
    assert len(result.trials) == 3
    assert result.sentence.startswith("Interrupted. So far: held 3,948 requests/s (loss <= 0.1 %) in short trials")


def test_stop_before_the_first_trial() -> None:
    world = Virtual(stops_at=0)
    assert world.find().limit.stopped_by == "interrupted"
    assert world.runs == []


def test_stop_while_waiting_for_the_target() -> None:
    world = Virtual(capacity=170_000)

    def sick() -> bool:
        world.stops_at = 0
        world.probes += 1
        return False

    world.recover = sick  # type: ignore[method-assign]
    assert world.find().limit.stopped_by == "interrupted"
    assert world.probes == 1


def test_interrupted_before_anything_was_measured() -> None:
    world = Virtual(raises={0: KeyboardInterrupt()})
    result = world.find()
    assert (result.trials, result.limit.value, result.rate_per_s) == ([], None, None)
    assert world.reported[-1].limit == result.limit
    assert result.sentence == "Interrupted. So far: nothing was measured that held or failed."


@pytest.mark.parametrize("error", [TargetError("unreachable"), GeneratorError("no descriptors")])
def test_an_error_with_nothing_to_keep_comes_out(error: Exception) -> None:
    with pytest.raises(type(error)):
        Virtual(raises={0: error}).find()


def test_an_error_of_the_generator_bounds_the_generator() -> None:
    """Too little memory for the slots of a high rate, say: repeated, then the search goes on below."""
    world = Virtual()
    inner = world.measure

    def measure(rate: float, duration_s: float, lead_s: float, tell: Callable[[RunProgress], None]) -> LoadResult:
        if rate > 100_000:
            raise GeneratorError("too little memory")
        return inner(rate, duration_s, lead_s, tell)

    world.measure = measure  # type: ignore[method-assign]
    result = world.find()
    assert (result.limit.stopped_by, result.limit.upper) == ("generator", None)
    assert result.limit.value == pytest.approx(100_000, rel=0.02)
    assert all(t.verdict == "held" for t in result.trials)


GOAL = Goal(loss=0.001, p99_ns=5_000_000)


def _limit(stopped_by: StoppedBy, value: float | None, upper: float | None = None) -> Limit:
    return Limit(
        axis="rate", value=value, lower=value, upper=upper, unit="requests/s", goal=GOAL, stopped_by=stopped_by
    )


@pytest.mark.parametrize(
    ("limit", "because", "expected"),
    [
        (
            _limit("found", 204_000, 208_000),
            "loss 0.4 % is above 0.1 %",
            "Holds 204,000 requests/s (loss <= 0.1 %, p99 <= 5 ms); fails at 208,000/s: loss 0.4 % is above 0.1 %.",
        ),
        (
            _limit("max", 5_000_000),
            None,
            "No limit found up to 5,000,000/s: 5,000,000 requests/s held (loss <= 0.1 %, p99 <= 5 ms).",
        ),
        (
            _limit("min", None, 1_000),
            "loss 40 % is above 0.1 %",
            "Fails already at the minimum of 1,000 requests/s (loss <= 0.1 %, p99 <= 5 ms): loss 40 % is above 0.1 %.",
        ),
        (
            _limit("generator", 231_000),
            None,
            "At least 231,000/s (loss <= 0.1 %, p99 <= 5 ms); the generator could not go further. The server's limit "
            "is unknown. Give it CPUs that the server does not use, or a second host; a plain rate test over UDP goes "
            "faster with --gso.",
        ),
        (
            _limit("generator", None),
            "too little memory",
            "The server's limit is unknown: this generator cannot drive even 1,000 requests/s: too little memory.",
        ),
        (
            _limit("budget", 204_000, 260_000),
            None,
            "Holds 204,000 requests/s (loss <= 0.1 %, p99 <= 5 ms); fails at 260,000/s; "
            "the budget of 60 s ended before this was settled within 2 %.",
        ),
        (
            _limit("target", None, 2_000),
            "unreachable",
            "The target stopped answering: unreachable. Until then: nothing held; fails at 2,000/s.",
        ),
    ],
)
def test_sentences(limit: Limit, because: str | None, expected: str) -> None:
    assert sentence(limit, search(), because) == expected


def test_a_value_that_no_long_run_held_says_so() -> None:
    unconfirmed = msgspec.structs.replace(_limit("budget", 204_000), confirmed=False)
    said = sentence(unconfirmed, search())
    assert said.startswith("Held 204,000 requests/s (loss <= 0.1 %, p99 <= 5 ms) in short trials; ")
    assert said.endswith("No long run has confirmed it.")
    found = Virtual().find()
    limit = msgspec.structs.replace(found.limit, confirmed=False)
    assert exit_code(found) == 0
    assert exit_code(msgspec.structs.replace(found, limit=limit)) == 1


def test_a_value_that_lost_more_than_the_goal_over_all_does_not_hold() -> None:
    """Finding 10."""
    lossy = msgspec.structs.replace(_limit("found", 204_000), loss_below=0.004, interval=[200_000.0, 210_000.0])
    assert not lossy.holds
    assert sentence(lossy, search()) == (
        "Held 204,000 requests/s (loss <= 0.1 %, p99 <= 5 ms) in half of the trials, but over all time at and below it "
        "lost 0.4 %; the limit is 200,000 to 210,000/s (90 % interval)."
    )


def test_units_other_than_a_rate() -> None:
    limit = msgspec.structs.replace(_limit("found", 9_000, 10_000), axis="connections", unit="connections")
    assert "Holds 9,000 connections (" in sentence(limit, search())
    assert "fails at 10,000 connections." in sentence(limit, search())


def test_the_conditional_throughput_is_the_lower_bound_less_what_it_lost() -> None:
    found = Virtual(capacity=CAPACITY, bad=None).find(search(loss=0.01))
    limit = found.limit
    assert limit.value is not None
    assert limit.conditional_throughput_per_s is not None
    assert limit.lower is not None
    assert limit.lower * 0.99 <= limit.conditional_throughput_per_s <= limit.lower
    nothing = Virtual(capacity=10.0).find().limit
    assert (nothing.value, nothing.conditional_throughput_per_s) == (None, None)
