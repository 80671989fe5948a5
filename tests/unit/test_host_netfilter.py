"""NOTRACK with nft, with iptables, and as lines of a script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hosts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.host.tuning import netfilter
from flatout.host.tuning.aim import Aim
from flatout.host.tuning.apply import apply, undo
from flatout.host.tuning.check import check

SERVER = Aim(role="server", transport="udp", ports=[123])
WANTED = netfilter.wanted(SERVER)
RULES = st.lists(
    st.builds(
        "{} {} {} {}".format,
        st.sampled_from(("prerouting", "output")),
        st.sampled_from(("udp", "tcp")),
        st.sampled_from(("dport", "sport")),
        st.integers(1, 65_535),
    ),
    max_size=5,
)
PROGRAMS = [(netfilter.NFT, ("nft",)), (netfilter.IPTABLES, ("iptables", "ip6tables"))]
LISTED = """\
table inet flatout_notrack {
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		udp dport 123 notrack
		udp dport 53 notrack
	}

	chain output {
		type filter hook output priority raw; policy accept;
		udp sport 123 notrack
	}
}
"""


@pytest.mark.parametrize(("key", "installed"), PROGRAMS)
@given(first=RULES, second=RULES)
def test_rules_are_what_was_written(key: str, installed: tuple[str, ...], first: list[str], second: list[str]) -> None:
    programs = hosts.Programs(*installed)
    assert netfilter.read(key, programs) == netfilter.NONE
    for rules in (first, second, []):
        netfilter.write(key, netfilter.text(rules), programs)
        assert netfilter.read(key, programs) == netfilter.text(rules)
    assert programs.table == ""
    assert programs.raw == {"iptables": [], "ip6tables": []}


def test_the_list_of_nft_is_read() -> None:
    programs = hosts.Programs("nft")
    programs.table = LISTED
    expected = "output udp sport 123; prerouting udp dport 123; prerouting udp dport 53"
    assert netfilter.read(netfilter.NFT, programs) == expected


def test_rules_of_others_are_left_alone() -> None:
    programs = hosts.Programs("iptables")
    others = "PREROUTING -p udp -m udp --dport 53 -j NOTRACK"
    programs.raw["iptables"].append(others)
    netfilter.write(netfilter.IPTABLES, "prerouting udp dport 123", programs)
    netfilter.write(netfilter.IPTABLES, netfilter.NONE, programs)
    assert programs.raw["iptables"] == [others]


def test_a_program_that_fails_is_an_error_with_its_words() -> None:
    programs = hosts.Programs("nft")
    programs.refuses = "\nError: Could not process rule: Operation not permitted\n"
    for act in (
        lambda: netfilter.read(netfilter.NFT, programs),
        lambda: netfilter.write(netfilter.NFT, "none", programs),
    ):
        with pytest.raises(OSError, match="not permitted"):
            act()
    with pytest.raises(OSError, match="not installed"):
        netfilter.read(netfilter.IPTABLES, programs)


@pytest.mark.parametrize("value", ["", "x", "prerouting udp dport 123; drop table", "output udp dport 1;rm"])
def test_a_value_that_is_no_rule_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no list of rules"):
        netfilter.ruleset(value)


def test_lines_for_iptables_add_and_take_away() -> None:
    wanted = netfilter.text(netfilter.wanted(Aim(role="server", transport="udp", ports=[123])))
    lines = netfilter.commands(netfilter.IPTABLES, "none", wanted)
    assert len(lines) == 4
    first = "iptables -w -t raw -A OUTPUT -p udp -m udp --sport 123 -m comment --comment flatout -j NOTRACK"
    assert lines[0] == f"{first} || failed=1"
    back = netfilter.commands(netfilter.IPTABLES, wanted, "none")
    assert back == [line.replace(" -A ", " -D ") for line in lines]


class Dying(hosts.Programs):
    """Programs of a flatout that dies at one of its changes."""

    left = 0

    def __call__(self, command: Sequence[str], given: str) -> tuple[int, str, str]:
        if "-A" in command or "-D" in command:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        return super().__call__(command, given)


@pytest.mark.parametrize("at", range(4))
def test_rules_that_were_cut_short_are_seen_finished_and_removed(tmp_path: Path, at: int) -> None:
    """iptables knows its own half only: IPv4 has rules then, and IPv6 none."""
    root = hosts.tree(tmp_path / "root", hosts.SYSCTLS | hosts.TRACKING)
    programs = Dying("iptables", "ip6tables")
    programs.left = at
    system, journal = hosts.host(root, programs), tmp_path / "state" / "host.json"
    with pytest.raises(KeyboardInterrupt):
        apply(SERVER, system, journal)
    programs.left = 99
    rules = sum(map(len, programs.raw.values()))
    assert rules == at
    finished = hosts.Programs("iptables", "ip6tables")
    finished.raw = {name: list(lines) for name, lines in programs.raw.items()}
    assert check(SERVER, hosts.host(root, finished)).settings[-1].state == "differs"
    netfilter.write(
        netfilter.IPTABLES, netfilter.with_more(netfilter.read(netfilter.IPTABLES, finished), WANTED), finished
    )
    assert netfilter.read(netfilter.IPTABLES, finished) == netfilter.text(WANTED)
    assert {len(lines) for lines in finished.raw.values()} == {2}

    assert "left" not in {item.how for item in undo(system, journal)}
    assert programs.raw == {"iptables": [], "ip6tables": []}
    assert not journal.exists()
