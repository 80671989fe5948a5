"""Rules by which packets of a service are not tracked (NOTRACK), with nft or iptables. They are flatout's own.

With nft they are one table, replaced as a whole; with iptables they are rules in the table `raw` that carry a comment.
As a setting their value is one text, such as "output udp sport 123; prerouting udp dport 123", or "none".
"""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Callable, Sequence

from flatout.host.tuning.aim import Aim

NFT, IPTABLES = "nft:flatout_notrack", "iptables:flatout_notrack"
KEYS = (NFT, IPTABLES)
NONE = "none"
_TABLE = "flatout_notrack"
_HOOKS = ("prerouting", "output")
_LISTED = re.compile(r"(udp|tcp) (dport|sport) (\d+) notrack")
_CHAIN = re.compile(r"\s*chain (\w+)")
_APPENDED = re.compile(r"-A (PREROUTING|OUTPUT) .*-p (udp|tcp) .*--(dport|sport) (\d+) .*--comment \"?flatout\"?")
_TRACKING = re.compile(
    r"\bct (state|status|mark|label|direction|count|zone|helper)|masquerade|\b[sd]nat\b|\bredirect\b|\"conntrack\""
    r"|-m (conntrack|state|connlimit|connmark|connbytes|helper)\b|-j ([SD]NAT|MASQUERADE|REDIRECT|NETMAP|CONNMARK)\b"
)
_RULE = re.compile(r"(prerouting|output) (udp|tcp) (dport|sport) (\d{1,5})( ipv[46])?")
_FAMILY = re.compile(r" ipv[46]$")
_OTHER = {"ipv4": " ipv6", "ipv6": " ipv4"}

# Runs a program with text on its standard input: exit code, standard output, standard error.
Run = Callable[[Sequence[str], str], tuple[int, str, str]]


def wanted(aim: Aim) -> list[str]:
    """The rules for the ports of an aim: what comes to the service, and what it sends."""
    out, back = ("sport", "dport") if aim.role == "server" else ("dport", "sport")
    ports = sorted(set(aim.ports))
    return [f"output {aim.transport} {out} {port}" for port in ports] + [
        f"prerouting {aim.transport} {back} {port}" for port in ports
    ]


def text(rules: Sequence[str]) -> str:
    """The value of the setting."""
    return "; ".join(sorted(set(rules))) or NONE


def rules(value: str) -> list[str]:
    """The rules of a value. Errors: ValueError for what is none."""
    found = [] if value == NONE else value.split("; ")
    if any(_RULE.fullmatch(rule) is None for rule in found):
        raise ValueError(f"'{value}' is no list of rules")
    return found


def with_more(now: str, more: Sequence[str]) -> str:
    """The value with more rules."""
    kept = [rule for rule in rules(now) if _FAMILY.sub("", rule) not in more]
    return text([*kept, *more])


def tracked_by(run: Run) -> bool | None:
    """Whether a rule of this network namespace needs connection tracking; None where a program does not show its rules.

    Without nft and iptables there are no rules that could be seen, and most likely none.
    """
    # Not `iptables -t nat -S`: it loads the module of a table that is not in use, and that one tracks.
    done = [run(command, "") for command in (("nft", "list", "ruleset"), ("iptables-save",), ("ip6tables-save",))]
    if any(code == 0 and _TRACKING.search(listed) for code, listed, _ in done):
        return True
    return None if any(code != 0 and _refused(error) for code, _, error in done) else False


def read(key: str, run: Run) -> str:
    """The value now. Errors: OSError where the program is missing or refuses."""
    if key == NFT:
        return _read_nft(run)
    found = [_listed(tool, run) for tool in _tools(run)]
    # A rule that one program has and the other one lacks shows as one of its kind of address.
    everywhere = set[str]().union(*found).intersection(*found)
    partly = [f"{rule} {family}" for rules_, family in zip(found, ("ipv4", "ipv6"), strict=False) for rule in rules_]
    return text([*everywhere, *(rule for rule in partly if rule.rpartition(" ")[0] not in everywhere)])


def write(key: str, value: str, run: Run) -> None:
    """Makes these the rules. Errors: OSError where the program is missing or refuses, ValueError for no rules."""
    if key == NFT:
        _must(run, ("nft", "-f", "-"), ruleset(value))
        return
    for tool, family in zip(_tools(run), ("ipv4", "ipv6"), strict=False):
        now = _listed(tool, run)
        then = {_FAMILY.sub("", rule) for rule in rules(value) if not rule.endswith(_OTHER[family])}
        for flag, chosen in (("-A", then - now), ("-D", now - then)):
            for rule in sorted(chosen):
                _must(run, (tool, "-w", "-t", "raw", *_arguments(flag, rule)))


def commands(key: str, now: str, value: str) -> list[str]:
    """The same as lines of a POSIX shell, which set `failed` to 1 where they fail."""
    if key == NFT:
        return ["nft -f - <<'END' || failed=1", *ruleset(value).splitlines(), "END"]
    lines = []
    for tool, family in (("iptables", "ipv4"), ("ip6tables", "ipv6")):
        old, new = (
            {_FAMILY.sub("", rule) for rule in rules(text_) if not rule.endswith(_OTHER[family])}
            for text_ in (now, value)
        )
        changes = [("-A", rule) for rule in sorted(new - old)] + [("-D", rule) for rule in sorted(old - new)]
        lines += [shlex.join((tool, "-w", "-t", "raw", *_arguments(*change))) + " || failed=1" for change in changes]
    return lines


def ruleset(value: str) -> str:
    """The file for nft that makes these the rules, in one transaction."""
    found = rules(value)
    # Adding what may be there makes deleting sure.
    lines = [f"table inet {_TABLE}", f"delete table inet {_TABLE}"]
    if found:
        lines.append(f"table inet {_TABLE} {{")
        for hook in _HOOKS:
            own = [rule.removeprefix(f"{hook} ") for rule in found if rule.startswith(hook)]
            lines.append(f"    chain {hook} {{")
            lines.append(f"        type filter hook {hook} priority -300; policy accept;")
            lines += [f"        {rule} notrack" for rule in own]
            lines.append("    }")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _read_nft(run: Run) -> str:
    code, listed, error = run(("nft", "list", "table", "inet", _TABLE), "")
    if code and "No such file" in error and "list table" in error:
        return NONE
    if code:
        raise _failed(("nft",), code, error)
    found, chain = [], ""
    for line in listed.splitlines():
        head = _CHAIN.match(line)
        chain = head[1] if head else chain
        found += [f"{chain} {one[1]} {one[2]} {one[3]}" for one in _LISTED.finditer(line)]
    return text(found)


def own(now: str, *known: str) -> bool:
    """Whether flatout has set all rules of a value: each is one of the known values, whole or for one kind of address.

    A change that was cut short leaves some of them.
    """
    mine = {_FAMILY.sub("", rule) for value in known for rule in rules(value)}
    return all(_FAMILY.sub("", rule) in mine for rule in rules(now))


def _refused(error: str) -> bool:
    return any(words in error for words in ("not permitted", "Permission denied", "must be root"))


def _listed(tool: str, run: Run) -> set[str]:
    listed = _must(run, (tool, "-w", "-t", "raw", "-S"))
    return {f"{one[1].lower()} {one[2]} {one[3]} {one[4]}" for one in _APPENDED.finditer(listed)}


def _tools(run: Run) -> list[str]:
    """The second one is missing on hosts without IPv6."""
    return ["iptables", *(["ip6tables"] if run(("ip6tables", "-w", "-t", "raw", "-S"), "")[0] == 0 else [])]


def _arguments(flag: str, rule: str) -> tuple[str, ...]:
    chain, protocol, field, port = rule.split()
    matched = ("-p", protocol, "-m", protocol, f"--{field}", port, "-m", "comment", "--comment", "flatout")
    return (flag, chain.upper(), *matched, "-j", "NOTRACK")


def _must(run: Run, command: Sequence[str], given: str = "") -> str:
    code, out, error = run(command, given)
    if code:
        raise _failed(command, code, error)
    return out


def _failed(command: Sequence[str], code: int, error: str) -> OSError:
    lines = [line for line in error.splitlines() if line.strip()]
    reported = lines[0].strip() if lines else f"exit code {code}"
    number = errno.EPERM if _refused(error) else errno.EIO
    return OSError(number, f"{command[0]}: {reported}")
