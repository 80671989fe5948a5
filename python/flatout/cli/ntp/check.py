"""`flatout ntp check HOST`: judges an NTP server as the pool's monitor does, and by the rules that it should keep."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.errors import TargetError, UsageError
from flatout.plan import targets
from flatout.protocols import protocol
from flatout.protocols.ntp import check as checks
from flatout.view import format as fmt

_MARKS = {"pass": "pass   ", "fail": "FAIL   ", "unknown": "unknown"}


def check(
    target: Annotated[str, Parameter(help="Name or address, with a port where it is not 123.")],
    /,
    *,
    samples: Annotated[int, Parameter(help="Queries for the score; the best one counts, as at the monitor.")] = 3,
    gap: Annotated[str, Parameter(help="Between two queries for the score.")] = "2s",
    timeout: Annotated[str, Parameter(help="An answer later than this is none.")] = "3s",
    control: Annotated[
        bool | None,
        Parameter(help="Also send queries of modes 6 and 7. [where the target is loopback, link-local or private]"),
    ] = None,
    json: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="Write what was found as JSON to a file (-: standard output)."),
    ] = None,
    quiet: Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")] = False,
) -> int:
    """Judge an NTP server with a handful of packets: its score in the NTP Pool, and the rules that it keeps or breaks.

    The score is the monitor's: +1 within 25 ms of this host's clock, less above, -5 without an answer, -10 where the
    server refuses, -4 above 3 s. The pool uses servers above 10, and a server ends at 20 times its step. Time is
    compared with this host's clock: keep that right.

    Ends with 0 where all is well, 1 where a rule is broken or the pool would not use the server, 3 without any answer.

    **Examples**
    ```
    flatout ntp check 192.168.1.10
    flatout ntp check ntp.example.org --json -
    ```

    """
    if not 1 <= samples <= 20:
        raise UsageError(f"--samples {samples}: give 1 to 20")
    output = Output(json=json, quiet=quiet)
    out.check_writable(output)
    endpoint = targets.resolve(target, protocol("ntp").port)
    result = _run(
        target, endpoint, samples, gap_s=units.duration(gap), timeout_s=units.duration(timeout), control=control
    )
    reported: list[str] = []
    code = out.write_json(result, output, reported)
    if not quiet:
        print(text(result), file=sys.stderr if json == "-" else sys.stdout)
    for line in reported:
        out.say(line)
    if not result.reached:
        out.say(f"flatout: no answer from {result.address}")
    return out.worst([code, out.TARGET if not result.reached else out.DONE if result.passed else out.UNMET])


def _run(
    target: str, endpoint: targets.Endpoint, samples: int, *, gap_s: float, timeout_s: float, control: bool | None
) -> checks.CheckResult:
    if not 0 < timeout_s <= 60 or not 0 <= gap_s <= 3600:
        raise UsageError("give a --timeout above 0 and up to 60 s, and a --gap up to 1 h")
    own = True
    try:
        targets.guard(endpoint, allow_public=False)
    except UsageError:
        targets.guard(endpoint, allow_public=True)
        own = False
    to = (str(endpoint.address), endpoint.port, *([0, endpoint.scope] if endpoint.address.version == 6 else []))
    asked = own if control is None else control
    try:
        return checks.run(target, to, samples=samples, gap_s=gap_s, timeout_s=timeout_s, control=asked)
    except OSError as error:
        raise TargetError(f"{endpoint} cannot be reached from here: {error.strerror or error}") from error


def text(result: checks.CheckResult) -> str:
    """What was found, for a terminal."""
    score = result.score
    used = "the pool would use it" if score.in_dns else "the pool would not use it"
    lines = [
        f"ntp {fmt.plain(result.target)} ({result.address})",
        f"Score {score.step:+.2f} a check: {fmt.plain(score.why)}.",
        f"With such checks alone it ends at {score.settles_at:.1f} of 20; {used} (above 10).",
        "",
        *(_sample(number, one, score.sample) for number, one in enumerate(result.samples)),
    ]
    if result.findings:
        lines += ["", *(f"{_MARKS[one.verdict]}  {one.name:<26} {fmt.plain(one.reason)}" for one in result.findings)]
        failed = sum(one.verdict == "fail" for one in result.findings)
        lines += ["", f"{len(result.findings) - failed} of {len(result.findings)} rules are kept or not known."]
        if not failed:
            lines[-1] = f"No rule of {len(result.findings)} is broken."
    return "\n".join(lines)


def _sample(number: int, one: checks.Sample, counts: int | None) -> str:
    if one.stratum is None or one.offset_ns is None:
        return f"{number + 1}  no answer"
    state = f"stratum {one.stratum}, leap {one.leap}, reference {one.reference_id} {fmt.plain(one.kiss)}".rstrip()
    times = f"offset {fmt.offset(one.offset_ns):>9}  round trip {fmt.duration(one.round_trip_ns):>8}"
    return f"{number + 1}  {times}  {state}{'  <- counts' if number == counts else ''}"
